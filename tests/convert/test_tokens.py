"""llama.cpp reads and writes a converted vocabulary's text as transformers does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers.pre_tokenizers import Whitespace

from edge_router.convert.tokens import CORPUS, compare_corpus, corpus, vocabulary_model
from edge_router.convert.vocabulary import (
    CONTROL,
    UNUSED,
    USER_DEFINED,
    load_tokenizer,
    pretokenizer,
    read_vocabulary,
)
from edge_router.engine.llama_model import LlamaModel
from edge_router.errors import UserError
from tests.checkpoints import (
    FAMILIES,
    VOCABULARY,
    edit_json,
    write_checkpoint,
    write_f16,
    write_tokenizer,
)

KINDS = ("llama-bpe", "qwen2", "gpt-2", "smollm")
SPM = ("sentencepiece", "sentencepiece-json", "sentencepiece-first")


@pytest.fixture(scope="module", params=[*KINDS, *SPM])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of one kind."""
    kind: str = request.param
    made = tmp_path_factory.mktemp("tokenizer") / kind
    write_tokenizer(made, kind)
    return made


def test_the_corpus_is_read_alike(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    vocabulary = read_vocabulary(folder, tokenizer, VOCABULARY)
    with vocabulary_model(tmp_path, vocabulary, "llama") as model:
        assert compare_corpus(model, tokenizer, vocabulary) > 300
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", ["llama2", "llama3", "smollm2", "mistral", "qwen2", "qwen3"])
def test_text_survives_the_round_trip(family: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / family, family)
    target = tmp_path / "f16.gguf"
    write_f16(folder, target)
    model = LlamaModel.load(target)
    tokenizer = load_tokenizer(folder)
    for text in CORPUS:
        ids = model.tokenize_after(text)
        assert model.detokenize(ids) == text
        marked = f"<think>{text}</s>" if family in ("llama2", "mistral") else f"{text}<|im_end|>"
        if family != "mistral":
            wanted = tokenizer(marked, add_special_tokens=False)["input_ids"]
            assert model.tokenize(marked) == wanted
    first = model.bos_id if model.adds_bos else None
    expected = tokenizer("Hello")["input_ids"][0] if model.adds_bos else None
    assert first == expected


def test_a_checkpoint_with_a_sentencepiece_model_alone_is_read_by_sentencepiece(
    tmp_path: Path,
) -> None:
    """transformers makes a tokenizer of its own from such a file, which may cut otherwise."""
    folder = tmp_path / "spm"
    write_tokenizer(folder, "sentencepiece")
    tokenizer = load_tokenizer(folder)
    vocabulary = read_vocabulary(folder, tokenizer, VOCABULARY)
    tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
    assert tokenizer.tokenize("a  b") != load_tokenizer(folder).tokenize("a  b")
    with vocabulary_model(tmp_path, vocabulary, "llama") as model:
        assert compare_corpus(model, tokenizer, vocabulary) > 300


def test_a_wrong_pretokeniser_is_noticed(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "t", "qwen2")
    tokenizer = load_tokenizer(tmp_path / "t")
    vocabulary = read_vocabulary(tmp_path / "t", tokenizer, VOCABULARY)
    vocabulary.pre = "gpt-2"
    with (
        vocabulary_model(tmp_path, vocabulary, "qwen2") as model,
        pytest.raises(UserError, match=r"\(gpt-2\): .* in the checkpoint, .* in llama"),
    ):
        compare_corpus(model, tokenizer, vocabulary)


def test_an_unknown_pretokeniser_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "qwen2")

    def cut_at_words(tokenizer: dict[str, Any]) -> None:
        tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+|\W+"

    edit_json(tmp_path / "tokenizer.json", cut_at_words)
    with pytest.raises(UserError, match="gpt-2, smollm, llama-bpe, qwen2"):
        read_vocabulary(tmp_path, load_tokenizer(tmp_path), VOCABULARY)


def test_no_pretokeniser_is_not_taken_for_one() -> None:
    assert pretokenizer({}) is None
    assert pretokenizer({"pre_tokenizer": {"type": "Whitespace"}}) is None
    prefixed = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}
    assert pretokenizer({"pre_tokenizer": prefixed}) is None


def test_a_tokenizer_larger_than_the_embeddings_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "qwen2")
    with pytest.raises(UserError, match=r"its tokenizer has a token .* embeddings end at 99"):
        read_vocabulary(tmp_path, load_tokenizer(tmp_path), 100)


def test_kinds_of_tokens_are_distinguished(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "qwen2")
    tokenizer = load_tokenizer(tmp_path)
    vocabulary = read_vocabulary(tmp_path, tokenizer, VOCABULARY)
    kinds = dict(zip(vocabulary.tokens, vocabulary.types, strict=True))
    assert kinds["<|im_end|>"] == CONTROL
    assert kinds["<think>"] == USER_DEFINED
    assert kinds[f"[PAD{VOCABULARY - 1}]"] == UNUSED
    assert any("<|im_start|>" in text for text in corpus(vocabulary, tokenizer))


def test_the_template_comes_along(tmp_path: Path) -> None:
    for family in ("llama2", "qwen3"):
        folder = write_checkpoint(tmp_path / family, family)
        target = tmp_path / f"{family}.gguf"
        write_f16(folder, target, check=False)
        jinja = folder / "chat_template.jinja"
        config = json.loads((folder / "tokenizer_config.json").read_text())
        wanted = jinja.read_text() if jinja.is_file() else config["chat_template"]
        assert LlamaModel.load(target).chat_template == wanted
        assert FAMILIES[family].tokenizer
