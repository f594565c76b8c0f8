"""Prove that llama.cpp reads text into the tokens that the checkpoint was trained with.

A wrong pre-tokeniser does not crash anything, the model only gets worse. So the
converted vocabulary is loaded, and code, emoji, CJK, runs of whitespace, special
tokens and chat turns are read by both; the first difference ends the conversion.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from edge_router.convert.files import told
from edge_router.convert.vocabulary import CONTROL, Vocabulary, sentencepiece_model
from edge_router.engine.llama import LlamaModel
from edge_router.errors import UserError

# Every line stands for a way in which tokenizers differ. All of it is in Unicode's composed
# form: Qwen's tokenizers compose text first (NFC), and llama.cpp does not.
CORPUS: Final[tuple[str, ...]] = tuple(
    json.loads(Path(__file__).with_name("tokens_corpus.json").read_text(encoding="utf-8"))
)


def check_tokens(folder: Path, vocabulary: Vocabulary, tokenizer: Any, architecture: str) -> int:
    """Compare over the corpus; returns the number of tokens compared.

    Raises `UserError` showing the first text that llama.cpp reads differently.
    """
    from gguf import GGUFWriter

    with told(folder), TemporaryDirectory(prefix=".", suffix=".partial", dir=folder) as scratch:
        path = Path(scratch, "vocabulary.gguf")
        writer = GGUFWriter(path, architecture)
        writer.add_uint32(f"{architecture}.vocab_size", len(vocabulary.tokens))
        vocabulary.write(writer, Path(tokenizer.name_or_path))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        model = LlamaModel.load(path, vocab_only=True)
        try:
            return _compare(model, tokenizer, vocabulary)
        finally:
            model.close()


def _reader(tokenizer: Any, vocabulary: Vocabulary) -> Callable[[str], list[int]]:
    """How the checkpoint reads a text.

    A checkpoint with a tokenizer.model and no tokenizer.json was trained with
    SentencePiece itself. transformers 5 builds a tokenizer of its own from such
    a file, and cuts some runs of spaces otherwise ("    return" of Mistral v1).
    """
    folder = Path(tokenizer.name_or_path)
    if (folder / "tokenizer.json").is_file() or not (folder / "tokenizer.model").is_file():
        return lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"])
    processor = sentencepiece_model(folder)
    # SentencePiece puts a space before a text; after a line feed, which merges with nothing, none
    anchor = "" if vocabulary.space_prefix else "\n"
    known = len(processor.EncodeAsIds(anchor))
    ids = {text: i for i, text in enumerate(vocabulary.tokens)}
    controls = re.compile("(" + "|".join(map(re.escape, _controls(vocabulary))) + ")")

    def read(text: str) -> list[int]:
        parts = [part for part in controls.split(text) if part]
        return [
            i
            for part in parts
            for i in (
                [ids[part]]
                if controls.fullmatch(part)
                else processor.EncodeAsIds(anchor + part)[known:]
            )
        ]

    return read


def _controls(vocabulary: Vocabulary) -> list[str]:
    """The first few control tokens."""
    pairs = zip(vocabulary.tokens, vocabulary.types, strict=True)
    return [text for text, kind in pairs if kind == CONTROL][:4]


def _compare(model: LlamaModel, tokenizer: Any, vocabulary: Vocabulary) -> int:
    compared = 0
    read = _reader(tokenizer, vocabulary)
    for text in corpus(vocabulary):
        wanted = read(text)
        got = model.tokenize(text)
        if got != wanted:
            raise UserError(
                f"llama.cpp would read this checkpoint's text differently ({vocabulary.pre}): "
                f"{_around(tokenizer, wanted, got)}"
            )
        compared += len(wanted)
    return compared


def corpus(vocabulary: Vocabulary) -> Iterator[str]:
    """The texts, and text between the vocabulary's own control tokens.

    Where only a whole text gets a space in front, every text follows a control
    token, as it does in a chat prompt.
    """
    controls = _controls(vocabulary)
    lead = controls[0] if controls and not vocabulary.space_prefix else ""
    for text in CORPUS:
        yield lead + text
    for control in controls:
        yield f"{control}user\nput a clean apple in fridge.{control}\n{control}"


def _around(tokenizer: Any, wanted: Sequence[int], got: Sequence[int]) -> str:
    """Where the two part, in words of the vocabulary."""
    same = 0
    while same < min(len(wanted), len(got)) and wanted[same] == got[same]:
        same += 1
    ours, theirs = wanted[same : same + 4], got[same : same + 4]
    return (
        f"{tokenizer.convert_ids_to_tokens(ours)} in the checkpoint, "
        f"{tokenizer.convert_ids_to_tokens(theirs)} in llama.cpp"
    )
