"""The wrapper round llama.cpp: vocabulary, cache, logits, quantising, and failing in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.engine.llama import (
    ContextOverflowError,
    EngineError,
    LlamaContext,
    copy_all,
    copy_span,
    raw_decode,
)
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.quantise import Fallback, quantise
from edge_router.errors import UserError
from tests.engine_fixtures import tiny_llama_paths, tiny_model, tiny_paths
from tests.tiny_gguf import TINY_QWEN3, write_tiny

__all__ = ["tiny_llama_paths", "tiny_model", "tiny_paths"]

TEXT = "You are in the middle of a room. You see a fridge 1, and a countertop 2.\n> go to fridge 1"


@pytest.fixture
def contexts(tiny_paths: dict[str, Path]) -> Iterator[tuple[LlamaContext, LlamaContext]]:
    """A low and a high tier's context of 256 tokens, batches of 32."""
    models = [LlamaModel.load(tiny_paths[t]) for t in ("q4_k_m", "q8_0")]
    low, high = (LlamaContext(m, n_ctx=256, n_threads=1, n_batch=32) for m in models)
    yield low, high
    for context in (low, high):
        context.close()
        context.model.close()


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_survives_tokenising(tiny_model: LlamaModel, text: str) -> None:
    assert tiny_model.detokenize(tiny_model.tokenize(text, parse_special=False)) == text
    assert tiny_model.join(tiny_model.tokenize_after(text)) == text.encode()


def test_special_tokens_are_read_on_request_and_end_a_generation(tiny_model: LlamaModel) -> None:
    ids = tiny_model.tokenize("<|im_end|>")
    assert ids == [tiny_model.eos_id]
    assert tiny_model.is_eog(ids[0])
    assert tiny_model.eos_id in tiny_model.eog_ids
    assert tiny_model.token_bytes(ids[0]) == b""
    assert len(tiny_model.tokenize("<|im_end|>", parse_special=False)) > 1
    assert not tiny_model.is_eog(tiny_model.tokenize("a")[0])


def test_a_token_outside_the_vocabulary_is_an_error(tiny_model: LlamaModel) -> None:
    with pytest.raises(ValueError, match="not in a vocabulary"):
        tiny_model.token_bytes(tiny_model.n_vocab)


def test_a_model_knows_its_dimensions_and_template(tiny_model: LlamaModel) -> None:
    assert (tiny_model.n_vocab, tiny_model.n_embd, tiny_model.n_layer) == (1024, 256, 2)
    assert tiny_model.n_ctx_train == 2048
    assert tiny_model.chat_template == TINY_QWEN3.template
    assert not tiny_model.is_recurrent


def test_logits_are_a_read_only_view_of_the_last_token(
    contexts: tuple[LlamaContext, LlamaContext],
) -> None:
    context = contexts[0]
    ids = context.model.tokenize(TEXT)
    context.decode(ids, 0)
    logits = context.logits()
    assert logits.shape == (1024,)
    assert logits.dtype == np.float32
    assert logits.std() > 0.1
    assert not logits.flags.writeable
    before = logits.copy()
    context.decode(ids[:1], len(ids))
    assert context.logits() is logits  # the same memory
    assert (logits != before).any()


def test_a_text_longer_than_a_batch_gives_the_logits_of_one_batch(
    tiny_paths: dict[str, Path],
) -> None:
    model = LlamaModel.load(tiny_paths["f16"])
    ids = model.tokenize(TEXT)
    rows = []
    for n_batch in (8, 512):
        context = LlamaContext(model, n_ctx=256, n_threads=1, n_batch=n_batch)
        context.decode(ids, 0)
        rows.append(context.logits().copy())
        context.close()
    assert np.abs(rows[0] - rows[1]).max() < 0.02


def test_truncating_and_decoding_again_equals_a_fresh_cache(
    contexts: tuple[LlamaContext, LlamaContext], tiny_paths: dict[str, Path]
) -> None:
    context = contexts[0]
    ids = context.model.tokenize(TEXT)
    context.decode(ids, 0)
    context.decode(ids[5:25], len(ids))
    context.truncate(20)
    context.decode(ids[20:], 20)
    fresh = LlamaContext(context.model, n_ctx=256, n_threads=1, n_batch=32)
    fresh.decode(ids[:32], 0)  # the batches of the first decode above
    fresh.truncate(20)
    fresh.decode(ids[20:], 20)
    assert context.n_past == fresh.n_past == len(ids)
    assert (context.logits() == fresh.logits()).all()
    assert context.state() == fresh.state()


def test_decoding_at_an_earlier_position_drops_what_lay_there(
    contexts: tuple[LlamaContext, LlamaContext],
) -> None:
    context = contexts[0]
    ids = context.model.tokenize(TEXT)
    context.decode(ids[:10], 0)
    context.decode(ids[10:12], 10)
    expected = context.logits().copy()
    context.decode(ids[20:30], 12)
    context.decode(ids[10:12], 10)
    assert context.n_past == 12
    assert (context.logits() == expected).all()


def test_a_text_that_does_not_fit_is_refused_before_it_is_decoded(
    contexts: tuple[LlamaContext, LlamaContext],
) -> None:
    context = contexts[0]
    ids = context.model.tokenize(TEXT)[:10]
    context.decode(ids, 0)
    expected = context.state()
    with pytest.raises(ContextOverflowError) as caught:
        context.decode([1] * 247, 10)
    assert (caught.value.needed, caught.value.n_ctx) == (257, 256)
    assert context.state() == expected
    context.decode([1] * 246, 10)
    assert context.n_past == 256


def test_an_interrupted_decode_leaves_a_usable_cache(
    contexts: tuple[LlamaContext, LlamaContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = contexts[0]
    ids = context.model.tokenize(TEXT)
    context.decode(ids[:4], 0)
    context.decode(ids[4:], 4)
    expected = context.logits().copy()
    context.truncate(4)
    real_fill, calls = context._batch.fill, iter([None, KeyboardInterrupt()])

    def fill(*arguments: object) -> None:
        error = next(calls)
        if error is not None:
            raise error
        real_fill(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(context._batch, "fill", fill)
    with pytest.raises(KeyboardInterrupt):  # the first batch of 32 is in the cache by then
        context.decode(ids[4:] * 2, 4)
    monkeypatch.undo()
    assert context.n_past == 4
    context.decode(ids[4:], 4)
    assert (context.logits() == expected).all()


def test_a_span_copy_equals_a_full_copy_bit_for_bit(
    contexts: tuple[LlamaContext, LlamaContext],
) -> None:
    low, high = contexts
    ids = (low.model.tokenize(TEXT) * 4)[:200]
    low.decode(ids, 0)
    for p0, p1 in [(0, 30), (30, 31), (31, 199)]:  # the last takes several pieces
        copy_span(low, high, p0, p1)
    low.truncate(199)
    spans = high.state()
    high.decode(ids[199:], 199)
    span_logits = high.logits().copy()
    copy_all(low, high)
    assert high.state() == spans == low.state()
    high.decode(ids[199:], 199)
    assert (high.logits() == span_logits).all()


def test_an_exported_span_can_be_imported_later(
    contexts: tuple[LlamaContext, LlamaContext],
) -> None:
    low, high = contexts
    ids = low.model.tokenize(TEXT)
    low.decode(ids, 0)
    first, second = low.export_span(0, 12), low.export_span(12, 20)
    low.truncate(20)
    expected = low.state()
    low.truncate(0)
    high.import_span(first, 0, 12)
    high.import_span(second, 12, 20)
    assert high.state() == expected
    with pytest.raises(ValueError, match="cannot follow"):
        high.import_span(second, 12, 20)
    with pytest.raises(ValueError, match="no span"):
        high.export_span(12, 21)


def test_kv_of_another_shape_is_an_error(
    contexts: tuple[LlamaContext, LlamaContext], tmp_path: Path
) -> None:
    deeper = LlamaModel.load(write_tiny(tmp_path, replace(TINY_QWEN3, layers=3)))
    other = LlamaContext(deeper, n_ctx=256, n_threads=1)
    low = contexts[0]
    low.decode([1, 2, 3], 0)
    with pytest.raises(EngineError, match="cannot take over the KV"):
        copy_span(low, other, 0, 3)


def test_the_bare_loop_fills_the_cache_like_decode(
    contexts: tuple[LlamaContext, LlamaContext],
) -> None:
    context = contexts[0]
    ids = context.model.tokenize(TEXT)
    context.decode(ids[:1], 0)
    assert raw_decode(context, ids[1:20]) > 0
    raw = context.state()
    context.truncate(1)
    for i, token in enumerate(ids[1:20], start=1):
        context.decode([token], i)
    assert context.state() == raw


def test_loading_and_decoding_print_nothing(
    tiny_paths: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    model = LlamaModel.load(tiny_paths["q8_0"])
    LlamaContext(model, n_ctx=64, n_threads=1).decode([1, 2, 3], 0)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_a_byte_level_vocabulary_that_names_no_end_has_none(tmp_path: Path) -> None:
    """llama.cpp alone takes token 11 for BOS and for EOS."""
    path = tmp_path / "vocabulary.gguf"
    writer = GGUFWriter(path, "llama")
    tokens = [*"abcdefghijklmnop"]
    writer.add_uint32("llama.vocab_size", len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(["a b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    model = LlamaModel.load(path, vocab_only=True)
    assert (model.bos_id, model.eos_id, model.eog_ids) == (-1, -1, ())
    assert not any(model.is_eog(token) for token in range(model.n_vocab))
    assert model.token_text(model.bos_id) == ""


def test_a_gguf_that_llama_cpp_refuses_says_why(tmp_path: Path) -> None:
    path = tmp_path / "hollow.gguf"
    writer = GGUFWriter(path, "qwen3")
    writer.add_block_count(2)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match=r"llama\.cpp cannot load .*hollow\.gguf: .*key not found"):
        LlamaModel.load(path)


def test_quantising_reports_tensors_whose_rows_do_not_fit(tmp_path: Path) -> None:
    narrow = replace(TINY_QWEN3, name="narrow", width=192, ffn=256)
    report = quantise(write_tiny(tmp_path, narrow), tmp_path / "n.gguf", "q4_k_m", threads=1)
    assert Fallback("blk.0.attn_q.weight", 192, "q4_K", "q5_0") in report.fallbacks
    assert not any("ffn_down" in f.tensor for f in report.fallbacks)
    assert report.size_bytes == report.path.stat().st_size
    assert not quantise(write_tiny(tmp_path), tmp_path / "m.gguf", "q4_k_m", threads=1).fallbacks


def test_quantising_badly_gives_a_sentence_and_leaves_nothing(
    tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no precision 'q9'"):
        quantise(tiny_paths["f16"], tmp_path / "x.gguf", "q9")
    with pytest.raises(UserError, match="does not exist"):
        quantise(tiny_paths["f16"], tmp_path / "nowhere" / "x.gguf", "q8_0")
    with pytest.raises(UserError, match=r"cannot quantise .*requantizing"):
        quantise(tiny_paths["q4_k_m"], tmp_path / "x.gguf", "q3_k_m")
    assert list(tmp_path.iterdir()) == []
