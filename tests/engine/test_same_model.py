"""GGUFs of other people: builds of one checkpoint are taken, others refused by their difference."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType
from gguf.quants import _type_traits, dequantize, quantize

from edge_router.engine import fingerprint
from edge_router.engine.fingerprint import require_same_model
from edge_router.engine.gguf_file import (
    GGML_TYPES,
    TYPE_NUMBERS,
    GgufHeader,
    TensorInfo,
    read_header,
)
from edge_router.engine.gguf_writer import row_bytes
from edge_router.engine.imatrix import ImportanceMatrix
from edge_router.engine.ladder import Ladder, TierSpec
from edge_router.engine.llama_quantise import dequantised, requantised
from edge_router.engine.quantise import quantise
from edge_router.engine.tensor_values import tensor_rows, tensor_values
from edge_router.errors import UserError
from edge_router.ladders.resolve import find_ladder
from tests.edit_gguf import Weights, rewrite
from tests.engine_fixtures import N_CTX, tiny_llama_paths, tiny_paths
from tests.tiny_gguf import write_tiny

__all__ = ["tiny_llama_paths", "tiny_paths"]

ARRAY, INTEGER = GGUFValueType.ARRAY, GGUFValueType.UINT32
REAL, TEXT = GGUFValueType.FLOAT32, GGUFValueType.STRING
TOKENS, TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"


def together(*paths: Path) -> None:
    require_same_model([read_header(path) for path in paths])


def loaded(*paths: Path) -> None:
    specs = [TierSpec(f"t{i}", path) for i, path in enumerate(paths)]
    Ladder.load(specs, n_ctx=N_CTX, n_threads=1).close()


# -- weights ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def skewed(tiny_paths: dict[str, Path]) -> ImportanceMatrix:
    """An importance matrix in which some columns weigh a thousand times what others do."""
    rng, tensors = np.random.default_rng(0), read_header(tiny_paths["f16"]).tensors
    means = {
        name: np.exp(2 * rng.standard_normal(tensor.shape[0])).astype(np.float32)
        for name, tensor in tensors.items()
        if name.startswith("blk.") and len(tensor.shape) == 2
    }
    return ImportanceMatrix(means, 512)


@pytest.mark.parametrize(
    "tiers",
    [
        ("q2_k", "q4_0"),
        pytest.param(("q3_k_m", "q4_0", "iq4_nl", "q5_k_m", "q8_0"), marks=pytest.mark.slow),
    ],
)
def test_all_precisions_with_and_without_importance_belong_together(
    tiny_paths: dict[str, Path], skewed: ImportanceMatrix, tmp_path: Path, tiers: tuple[str, ...]
) -> None:
    files = dict(tiny_paths)
    for tier in tiers:
        for name, importance in (("plain", None), ("weighed", skewed)):
            files[f"{name}-{tier}"] = tmp_path / f"{name}-{tier}.gguf"
            quantise(
                tiny_paths["f16"], files[f"{name}-{tier}"], tier, importance=importance, threads=1
            )
    for path in files.values():
        for high in ("f16", "q8_0", "weighed-q4_0"):
            together(path, files[high])


def test_the_shipped_tiers_belong_together() -> None:
    """One of them has the type of fewest bits, and an importance matrix."""
    together(*(spec.path for spec in find_ladder("household").tiers))


def adapted(name: str, values: Weights) -> Weights:
    """What an adapter of rank 2 on the queries and values makes of it; norms stay as they were."""
    if not name.endswith(("attn_q.weight", "attn_v.weight")):
        return values
    rng, (rows, columns) = np.random.default_rng(1), values.shape
    change = rng.standard_normal((rows, 2)) @ rng.standard_normal((2, columns))
    return np.asarray(values + 0.2 * values.std() / change.std() * change)


@pytest.mark.parametrize("low", ["q4_k_m", "q8_0"])
@pytest.mark.parametrize("high", ["q8_0", "f16"])
def test_a_model_and_its_fine_tuned_one_are_refused_though_their_norms_are_the_same(
    tiny_paths: dict[str, Path], tmp_path: Path, low: str, high: str
) -> None:
    (tuned,) = rewrite(tiny_paths["f16"], tmp_path / "f16.gguf", weights=adapted)
    other = tuned if high == "f16" else tmp_path / "other.gguf"
    if high != "f16":
        quantise(tuned, other, high, threads=1)
    together(tuned, other)
    with pytest.raises(UserError, match=r"different checkpoints \(tensor blk\.\d\.attn_[qv]\."):
        together(tiny_paths[low], other)


def test_vectors_that_were_bf16_on_their_way_are_the_same(
    tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    """The tiny model's are all 1.0; a quarter more or less needs more bits than BF16 has."""

    def uneven(name: str, values: Weights) -> Weights:
        rng = np.random.default_rng(len(name))
        return values if values.ndim > 1 else values + rng.uniform(-0.25, 0.25, values.shape)

    def rounded(name: str, values: Weights) -> Weights:
        back = requantised("BF16", uneven(name, values)[None]) if values.ndim == 1 else None
        return values if back is None else back[0]

    def moved(name: str, values: Weights) -> Weights:
        return values if values.ndim > 1 else uneven(name, values) * 1.001

    source = tiny_paths["q3_k_m"]
    one, other, third = (
        rewrite(source, tmp_path / f"{edit.__name__}.gguf", weights=edit)[0]
        for edit in (uneven, rounded, moved)
    )
    together(one, other)
    with pytest.raises(UserError, match=r"different checkpoints \(tensor"):
        together(one, third)


def test_an_output_matrix_may_be_written_out_or_left_to_the_embedding(
    tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    source, extra = tiny_paths["f16"], {"output.weight": "token_embd.weight"}
    (out,) = rewrite(source, tmp_path / "out.gguf", extra=extra)
    loaded(tiny_paths["q3_k_m"], out)

    def other(name: str, values: Weights) -> Weights:
        return values[::-1] if name == "token_embd.weight" else values

    (wrong,) = rewrite(source, tmp_path / "wrong.gguf", weights=other)
    with pytest.raises(UserError, match=r"tensor token_embd\.weight differs by [0-9.]+ times"):
        together(out, wrong)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q4_0", "Q8_0", "Q3_K", "Q6_K", "IQ4_XS"])
def test_values_come_back_from_their_blocks(kind: str) -> None:
    values = np.random.default_rng(0).standard_normal((2, 512), np.float32)
    back = requantised(kind, values)
    assert back is not None
    assert 0 < np.abs(back - values).max() < {"Q3_K": 1.0, "Q4_0": 0.4}.get(kind, 0.3)
    block, size = GGML_TYPES[TYPE_NUMBERS[kind]][1:]
    assert not dequantised(kind, bytes(512 // block * size), 512).any()


READABLE = [t for t in GGMLQuantizationType if t.name in TYPE_NUMBERS and t in _type_traits]


@pytest.mark.parametrize("kind", READABLE, ids=lambda kind: kind.name)
def test_values_are_those_of_the_gguf_package_to_the_last_bit(
    kind: GGMLQuantizationType, tmp_path: Path
) -> None:
    """Blocks of random bytes, with scales that are numbers."""
    rows, columns = 6, 512
    rng = np.random.default_rng(0)
    values = 0.02 * rng.standard_normal((rows, columns), np.float32)
    try:
        data = quantize(values, kind).tobytes()
    except NotImplementedError:
        data = rng.integers(0, 60, (rows, row_bytes(kind.name, columns)), np.uint8).tobytes()
    (tmp_path / "x").write_bytes(b"head" + data)
    tensor = TensorInfo("x", (columns, rows), kind.name, 4, len(data), tmp_path / "x")
    blocks = np.frombuffer(data, np.uint8).reshape(rows, -1)
    wanted = dequantize(blocks, kind).reshape(rows, columns)
    assert np.isfinite(wanted).all()
    assert wanted.any()
    np.testing.assert_array_equal(tensor_values(tensor), wanted)
    np.testing.assert_array_equal(tensor_rows(tensor, (1, 4)), wanted[[1, 4]])


def test_a_type_without_values_is_one_sentence() -> None:
    with pytest.raises(UserError, match="I32, which holds no weights"):
        dequantised("I32", bytes(64), 16)


def test_types_that_ggml_would_die_of_or_take_seconds_for_are_left_alone() -> None:
    for kind in ("IQ1_S", "I32", "Q8_K"):
        assert requantised(kind, np.zeros((1, 256), np.float32)) is None


# -- metadata ---------------------------------------------------------------------------------

HARMLESS: Mapping[str, dict[str, Any]] = {
    "who made it": {
        "change": {"general.name": "another"},
        "add": {
            "general.quantized_by": ("somebody", TEXT),
            "general.url": ("https://example.org", TEXT),
            "quantize.imatrix.file": ("imatrix.dat", TEXT),
        },
    },
    "nobody made it": {"drop": ["general.name", "general.file_type"]},
    "another precision's number": {"change": {"general.file_type": 0}},
    "white space in the template": {"change": {"tokenizer.chat_template": "{{ messages }}\n\n"}},
    "no template": {"drop": ["tokenizer.chat_template"]},
    "padding": {"add": {"tokenizer.ggml.padding_token_id": (7, INTEGER)}},
    "a longer context": {"change": {"qwen3.context_length": 40960}},
    "an epsilon of more digits": {
        "drop": ["qwen3.attention.layer_norm_rms_epsilon"],
        "add": {"qwen3.attention.layer_norm_rms_epsilon": (1e-6, GGUFValueType.FLOAT64)},
    },
    "no rope scaling, said": {"add": {"qwen3.rope.scaling.type": ("none", TEXT)}},
    "where the checkpoint came from": {"add": {"qwen3.tensor_data_layout": ("Meta AI", TEXT)}},
    "its own size said": {"add": {"qwen3.vocab_size": (1, INTEGER)}},
}


@pytest.mark.parametrize("edit", HARMLESS)
def test_what_converters_say_differently_of_one_model_does_no_harm(
    tiny_paths: dict[str, Path], tmp_path: Path, edit: str
) -> None:
    (other,) = rewrite(tiny_paths["q3_k_m"], tmp_path / "other.gguf", **HARMLESS[edit])
    together(other, tiny_paths["q8_0"])
    together(tiny_paths["q8_0"], other)


def test_scores_do_no_harm_where_merges_decide(tiny_paths: dict[str, Path], tmp_path: Path) -> None:
    count = len(GGUFReader(tiny_paths["q8_0"]).fields[TOKENS].data)
    key, path = "tokenizer.ggml.scores", tmp_path / "scores.gguf"
    (scores,) = rewrite(tiny_paths["q8_0"], path, add={key: ([0.5] * count, ARRAY)})
    loaded(tiny_paths["q3_k_m"], scores)


HARMFUL: Mapping[str, dict[str, Any]] = {
    r"tokenizer\.ggml\.pre is \S+ in one and llama-bpe in the other": {
        "change": {"tokenizer.ggml.pre": "llama-bpe"}
    },
    r"tokenizer\.ggml\.bos_token_id is \S+ in one and 9 in the other": {
        "drop": ["tokenizer.ggml.bos_token_id"],
        "add": {"tokenizer.ggml.bos_token_id": (9, INTEGER)},
    },
    r"qwen3\.rope\.freq_base is 10000\.0 in one and 10001\.0 in the other": {
        "change": {"qwen3.rope.freq_base": 10001.0}
    },
    r"qwen3\.rope\.scaling\.factor is absent in one and 4\.0 in the other": {
        "add": {"qwen3.rope.scaling.factor": (4.0, REAL)}
    },
}


@pytest.mark.parametrize("difference", HARMFUL)
def test_what_changes_the_text_or_the_kv_is_refused_by_name(
    tiny_paths: dict[str, Path], tmp_path: Path, difference: str
) -> None:
    (other,) = rewrite(tiny_paths["q8_0"], tmp_path / "other.gguf", **HARMFUL[difference])
    with pytest.raises(UserError, match=difference):
        together(tiny_paths["q3_k_m"], other)


def test_the_length_a_rope_is_stretched_from_counts_though_a_file_does_not_say_it(
    tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    """llama.cpp then takes the context's length, which else does no harm."""
    length, kind = "qwen3.context_length", "qwen3.rope.scaling.type"
    (short,) = rewrite(tiny_paths["q3_k_m"], tmp_path / "a.gguf", add={kind: ("yarn", TEXT)})
    (long,) = rewrite(short, tmp_path / "b.gguf", change={length: 4096})
    with pytest.raises(UserError, match="original_context_length is absent in one"):
        together(short, long)


def test_tokens_of_another_text_or_type_are_refused_by_name(
    tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    fields = GGUFReader(tiny_paths["q8_0"]).fields
    tokens, types = (list(fields[key].contents()) for key in (TOKENS, TYPES))
    tokens[300], types[300] = "another", 4
    for key, values, said in (
        (TOKENS, tokens, r"tokens: number 300 is '.*' in one and 'another' in the other"),
        (TYPES, types, r"tokenizer\.ggml\.token_type"),
    ):
        (other,) = rewrite(tiny_paths["q8_0"], tmp_path / "x.gguf", change={key: values})
        with pytest.raises(UserError, match=said):
            together(tiny_paths["q3_k_m"], other)


# -- remembered -------------------------------------------------------------------------------


def test_files_are_compared_once_and_again_when_one_has_changed_or_the_version(
    tiny_paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))
    low, high = tmp_path / "low.gguf", tmp_path / "high.gguf"
    low.write_bytes(tiny_paths["q3_k_m"].read_bytes())
    high.write_bytes(tiny_paths["q8_0"].read_bytes())
    compared, compare = [], fingerprint._differences

    def seen(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
        compared.append((a.path, b.path))
        return compare(a, b)

    monkeypatch.setattr(fingerprint, "_differences", seen)
    together(low, high)
    together(low, high)
    assert compared == [(low, high)]
    together(high, low)
    assert len(compared) == 2
    os.utime(high, (1, 1))
    together(low, high)
    assert len(compared) == 3
    monkeypatch.setattr(fingerprint, "__version__", "another")
    together(low, high)
    assert len(compared) == 4

    other = write_tiny(tmp_path, seed=5)
    high.write_bytes(other.read_bytes())
    for _ in range(2):  # a refusal is not remembered, and no older verdict holds
        with pytest.raises(UserError, match="different checkpoints"):
            together(low, high)
