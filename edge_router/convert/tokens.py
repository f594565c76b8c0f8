"""Prove that llama.cpp reads text into the tokens that the checkpoint was trained with.

A wrong pre-tokeniser does not crash anything, the model only gets worse. So the
converted vocabulary is loaded, and code, emoji, CJK, runs of whitespace, special
tokens and chat turns are read by both; the first difference ends the conversion.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from edge_router.convert.files import told
from edge_router.convert.vocabulary import CONTROL, Vocabulary
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


def _compare(model: LlamaModel, tokenizer: Any, vocabulary: Vocabulary) -> int:
    compared = 0
    for text in corpus(vocabulary):
        wanted = list(tokenizer(text, add_special_tokens=False)["input_ids"])
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
    controls = [
        text
        for text, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
        if kind == CONTROL
    ][:4]
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
        f"{tokenizer.convert_ids_to_tokens(ours)} in transformers, "
        f"{tokenizer.convert_ids_to_tokens(theirs)} in llama.cpp"
    )
