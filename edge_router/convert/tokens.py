"""Prove that llama.cpp reads text into the tokens that the checkpoint was trained with.

A wrong pre-tokeniser does not crash anything, the model only gets worse. So the
converted vocabulary is loaded, and code, emoji, CJK, runs of whitespace, special
tokens and chat turns are read by both; the first difference ends the conversion.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from edge_router.convert.agreement import Read, parting, remarks
from edge_router.convert.vocabulary import (
    CONTROL,
    Vocabulary,
    sentencepiece_model,
)
from edge_router.engine.llama_model import LlamaModel
from edge_router.errors import UserError
from edge_router.files.whole import TEMPORARY, writing

# Every line stands for a way in which tokenizers differ. All of it is in Unicode's composed
# form: Qwen's tokenizers compose text first (NFC), and llama.cpp does not.
CORPUS: Final[tuple[str, ...]] = tuple(
    json.loads(Path(__file__).with_name("tokens_corpus.json").read_text(encoding="utf-8"))
)


@contextmanager
def vocabulary_model(
    folder: Path, vocabulary: Vocabulary, architecture: str
) -> Iterator[LlamaModel]:
    """llama.cpp with the vocabulary alone, out of a file in `folder` that goes at the end."""
    from gguf import GGUFWriter

    with (
        writing(folder),
        TemporaryDirectory(prefix=TEMPORARY, suffix=".partial", dir=folder) as scratch,
    ):
        path = Path(scratch, "vocabulary.gguf")
        writer = GGUFWriter(path, architecture)
        writer.add_uint32(f"{architecture}.vocab_size", len(vocabulary.tokens))
        vocabulary.write(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        model = LlamaModel.load(path, vocab_only=True)
        try:
            yield model
        finally:
            model.close()


def check_vocabulary(
    folder: Path, vocabulary: Vocabulary, tokenizer: Any, architecture: str
) -> tuple[str, ...]:
    """Compare llama.cpp with the checkpoint; returns what is otherwise, a sentence each.

    Raises `UserError` for text or chats that llama.cpp reads differently.
    """
    with vocabulary_model(folder, vocabulary, architecture) as model:
        compare_corpus(model, tokenizer, vocabulary)
        lead = _lead(vocabulary, _controls(vocabulary, tokenizer))
        return tuple(remarks(model, tokenizer, vocabulary, reader(tokenizer, vocabulary), lead))


def reader(tokenizer: Any, vocabulary: Vocabulary) -> Read:
    """How the checkpoint reads a text.

    A checkpoint with a tokenizer.model and no tokenizer.json was trained with
    SentencePiece itself. transformers 5 builds a tokenizer of its own from such
    a file, and cuts some runs of spaces otherwise ("    return" of Mistral v1).
    """
    folder = Path(tokenizer.name_or_path)
    if (folder / "tokenizer.json").is_file() or not (folder / "tokenizer.model").is_file():
        return lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return _sentencepiece_reader(tokenizer, vocabulary.space_prefix, sentencepiece_model(folder))


def _sentencepiece_reader(tokenizer: Any, space_prefix: bool, processor: Any) -> Read:
    """SentencePiece between the added tokens."""
    # SentencePiece puts a space before a text; after a line feed, which merges with nothing, none
    anchor = "" if space_prefix else "\n"
    known = len(processor.EncodeAsIds(anchor))
    ids = {token.content: i for i, token in tokenizer.added_tokens_decoder.items()}
    added = sorted(tokenizer.added_tokens_decoder.values(), key=lambda token: -len(token.content))
    found = re.compile("(" + "|".join(map(_pattern, added)) + ")")

    def read(text: str) -> list[int]:
        read: list[int] = []
        for n, part in enumerate(found.split(text)):
            if n % 2:  # re.split puts what the group matched at the odd places
                read.append(ids[part] if part in ids else ids[part.strip()])
            elif part:
                read.extend(processor.EncodeAsIds(anchor + part)[known:])
        return read

    return read


def _pattern(token: Any) -> str:
    """The text that an added token takes."""
    word = re.escape(token.content)
    if token.single_word:
        word = rf"(?<!\w){word}(?!\w)"
    before, after = (r"\s*" if strips else "" for strips in (token.lstrip, token.rstrip))
    return f"{before}{word}{after}"


def _controls(vocabulary: Vocabulary, tokenizer: Any) -> list[str]:
    """The first few control tokens that mean the same in any text."""
    return [
        token.content
        for i, token in sorted(tokenizer.added_tokens_decoder.items())
        if vocabulary.types[i] == CONTROL
        and not (token.lstrip or token.rstrip or token.single_word)
    ][:4]


def _lead(vocabulary: Vocabulary, controls: Sequence[str]) -> str:
    """What goes before a text that is compared.

    Where only a whole text gets a space in front, every text follows a control
    token, as it does in a chat prompt.
    """
    return controls[0] if controls and not vocabulary.space_prefix else ""


def compare_corpus(model: LlamaModel, tokenizer: Any, vocabulary: Vocabulary) -> int:
    """Compare over the corpus; returns the number of tokens compared.

    Raises `UserError` showing the first text that llama.cpp reads differently.
    """
    compared = 0
    read = reader(tokenizer, vocabulary)
    for text in corpus(vocabulary, tokenizer):
        wanted = read(text)
        got = model.tokenize(text)
        if got != wanted:
            raise UserError(
                f"llama.cpp would read this checkpoint's text differently ({vocabulary.pre}): "
                f"{parting(tokenizer, wanted, got)}"
            )
        compared += len(wanted)
    return compared


def corpus(vocabulary: Vocabulary, tokenizer: Any) -> Iterator[str]:
    """The texts, and text between a few of the vocabulary's own control tokens."""
    controls = _controls(vocabulary, tokenizer)
    for text in CORPUS:
        yield _lead(vocabulary, controls) + text
    for control in controls:
        yield f"{control}user\nput a clean apple in fridge.{control}\n{control}"
