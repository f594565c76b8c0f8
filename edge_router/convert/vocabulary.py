"""A checkpoint's tokenizer as llama.cpp wants it in a GGUF.

Two families: byte-level BPE (Llama 3, Qwen, SmolLM2), whose text is first cut
up by a pattern that llama.cpp has built in under a name, and SentencePiece
(Llama 2, Mistral), whose tokens carry scores. The pattern is recognised by
itself, not by a hash of what one published vocabulary makes of a sample text:
so any vocabulary that uses a known pattern converts, and `convert.tokens`
proves afterwards that llama.cpp reads text as transformers does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_router.convert.special import SpecialTokens, read_special
from edge_router.errors import UserError
from edge_router.parts import load_part

if TYPE_CHECKING:
    from gguf import GGUFWriter

_LETTERS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The pattern that cuts text up -> llama.cpp's name for it. Mistral Nemo's "tekken" is left out:
# llama.cpp leaves combining marks out of its classes and reads Devanagari differently.
PATTERNS: Final[Mapping[str, str]] = {
    rf"{_LETTERS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    rf"{_LETTERS}|\p{{N}}|{_REST}": "qwen2",
}
# gguf.TokenType, spelled out so that nothing is imported for it
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
# A tokenizer is one of these files or pairs of files.
_TOKENIZER_FILES: Final = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
_SPACE: Final = "\u2581"  # SentencePiece's visible space
_ADDED_SCORE: Final = -1000.0
_NO_SCORE: Final = -10000.0
_LONGEST: Final = 4096  # letters of a token; text is compared with every one


@dataclass
class Vocabulary:
    """Tokens by id, with a type each; `scores` is for SentencePiece, `merges` for byte level."""

    model: str  # llama.cpp's tokenizer: "gpt2" is byte-level BPE, "llama" SentencePiece
    pre: str
    tokens: list[str]
    types: list[int]
    special: SpecialTokens
    scores: list[float] | None = None
    merges: list[str] | None = None
    space_prefix: bool = True  # SentencePiece: a space before each piece of plain text

    def write(self, writer: GGUFWriter) -> None:
        """Write it, with special tokens, merges and chat template."""
        if not self.space_prefix:
            writer.add_add_space_prefix(False)
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        if self.scores is not None:
            writer.add_token_scores(self.scores)
        writer.add_token_types(self.types)
        if self.merges is not None:
            writer.add_token_merges(self.merges)
        self.special.write(writer, self.tokens)


def load_tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of the checkpoint. Raises `UserError`.

    A tokenizer.json is read as it stands. transformers' AutoTokenizer would put
    the model type's own pre-tokeniser in the place of the file's.
    """
    from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

    if not any(all((folder / name).is_file() for name in names) for names in _TOKENIZER_FILES):
        raise UserError(
            f"{folder} holds no tokenizer (neither tokenizer.json nor tokenizer.model); copy it "
            "from the model that this one was trained from, or download the checkpoint again"
        )
    kind: Any = AutoTokenizer
    if (folder / "tokenizer.json").is_file():
        kind = PreTrainedTokenizerFast
    elif (folder / "tokenizer.model").is_file():
        kind = LlamaTokenizer
    try:
        tokenizer: Any = kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever its parts raise
        said = " ".join(str(error).split())
        raise UserError(f"the tokenizer in {folder} cannot be read: {said[:300]}") from error
    if not getattr(tokenizer, "is_fast", False) or len(tokenizer) < 1:
        raise UserError(f"the tokenizer in {folder} is of a kind that cannot be converted")
    tokenizer.model_max_length = sys.maxsize  # the file's may be anything, and only warns
    return tokenizer


def read_vocabulary(folder: Path, tokenizer: Any, size: int) -> Vocabulary:
    """The vocabulary of `size` tokens. Raises `UserError` for a tokenizer llama.cpp lacks."""
    _require_usable(folder, tokenizer, size)
    described: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    model = described["model"]
    if model.get("type") != "BPE":
        raise UserError(
            f"the tokenizer in {folder} is a {model.get('type')}; supported are byte-level BPE "
            "and SentencePiece BPE"
        )
    read = _sentencepiece if model.get("byte_fallback") else _byte_level
    return read(folder, tokenizer, described, size)


def _require_usable(folder: Path, tokenizer: Any, size: int) -> None:
    """Refuse ids and texts that would keep the libraries busy for ever. Raises `UserError`."""
    known = tokenizer.get_vocab()
    largest, longest = max(known.values()), max(map(len, known))
    if largest >= size:
        raise UserError(
            f"{folder} does not fit together: its tokenizer has a token {largest} and its "
            f"embeddings end at {size - 1}"
        )
    if longest > _LONGEST:
        raise UserError(
            f"the tokenizer in {folder} has a token of {longest} letters, more than {_LONGEST}"
        )


# -- byte-level BPE -------------------------------------------------------------------------


def _byte_level(
    folder: Path, tokenizer: Any, described: Mapping[str, Any], size: int
) -> Vocabulary:
    pre = pretokenizer(described)
    if pre is None:
        raise UserError(
            f"the tokenizer in {folder} cuts text up in a way that is not known here; known are "
            f"gpt-2, smollm, {', '.join(PATTERNS.values())}"
        )
    tokens, types = _with_holes(size)
    for text, token in tokenizer.get_vocab().items():
        tokens[token], types[token] = text, NORMAL
    for token, text, kind in _added(tokenizer, described):
        tokens[token], types[token] = text, kind
    special = read_special(folder, tokenizer, size)
    return Vocabulary(
        "gpt2", pre, tokens, types, special, merges=_merges(described["model"]["merges"])
    )


def _merges(pairs: Sequence[str | Sequence[str]]) -> list[str]:
    """As llama.cpp reads them, the two halves with a space between; a space inside is "\u0120"."""
    split = (pair.split(" ") if isinstance(pair, str) else pair for pair in pairs)
    return [" ".join(half.replace(" ", "\u0120") for half in pair) for pair in split]


def pretokenizer(described: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for how a tokenizer.json cuts text up, None for one it is not known for."""
    parts = list(_flattened(described.get("pre_tokenizer"), "pretokenizers"))
    kinds = [part.get("type") for part in parts]
    if not parts or kinds[-1] != "ByteLevel" or parts[-1].get("add_prefix_space"):
        return None
    if kinds == ["ByteLevel"] and parts[-1].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits"):
        return "smollm" if parts[-1].get("use_regex", True) else None
    if kinds == ["Split", "ByteLevel"] and not parts[-1].get("use_regex", True):
        return PATTERNS.get(parts[0].get("pattern", {}).get("Regex", ""))
    return None


def _flattened(part: Mapping[str, Any] | None, key: str) -> Iterator[Mapping[str, Any]]:
    """A part of tokenizer.json, sequences (their members under `key`) taken apart."""
    if part is None:
        return
    if part.get("type") == "Sequence":
        for inner in part[key]:
            yield from _flattened(inner, key)
    else:
        yield part


# -- SentencePiece --------------------------------------------------------------------------


Pieces = tuple[list[str], list[int], list[float]]  # text, type and score of each token


def sentencepiece_model(folder: Path) -> Any:
    """SentencePiece's own reader of tokenizer.model."""
    processor = load_part("sentencepiece", extra="convert").SentencePieceProcessor()
    try:
        processor.LoadFromFile(str(folder / "tokenizer.model"))
    except (OSError, RuntimeError) as error:
        raise UserError(f"{folder / 'tokenizer.model'} is not a SentencePiece model") from error
    return processor


def _pieces_from_model(folder: Path, size: int) -> Pieces:
    """What tokenizer.model says."""
    processor = sentencepiece_model(folder)
    tokens, types = _with_holes(size)
    scores = [_NO_SCORE] * size
    for token in range(min(size, processor.vocab_size())):
        tokens[token], scores[token] = processor.IdToPiece(token), processor.GetScore(token)
        types[token] = _piece_type(processor, token)
    return tokens, types, scores


def _piece_type(processor: Any, token: int) -> int:
    if processor.IsUnknown(token):
        return UNKNOWN
    if processor.IsControl(token):
        return CONTROL
    if processor.IsUnused(token):
        return UNUSED
    return BYTE if processor.IsByte(token) else NORMAL


def _pieces_from_merges(tokenizer: Any, model: Mapping[str, Any], size: int) -> Pieces:
    """The same from tokenizer.json, which has no scores: an earlier merge is a higher one."""
    tokens, types = _with_holes(size)
    scores = [_NO_SCORE] * size
    rank: dict[str, int] = {}
    for pair in model["merges"]:
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        rank.setdefault(left + right, len(rank))
    for text, token in tokenizer.get_vocab().items():
        tokens[token], types[token] = text, NORMAL
        scores[token] = -float(rank.get(text, len(rank)))
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            types[token], scores[token] = BYTE, 0.0
    return tokens, types, scores


def _sentencepiece(
    folder: Path, tokenizer: Any, described: Mapping[str, Any], size: int
) -> Vocabulary:
    if (folder / "tokenizer.model").is_file():
        tokens, types, scores = _pieces_from_model(folder, size)
    else:
        tokens, types, scores = _pieces_from_merges(tokenizer, described["model"], size)
    for token, text, kind in _added(tokenizer, described):
        tokens[token], scores[token], types[token] = text, _ADDED_SCORE, kind
    special = read_special(folder, tokenizer, size)
    return Vocabulary(
        "llama",
        "default",
        tokens,
        types,
        special,
        scores=scores,
        space_prefix=_space_prefix(described),
    )


def _space_prefix(described: Mapping[str, Any]) -> bool:
    """Whether a space goes before every piece of plain text, also after a special token.

    "first" means only before a whole text, which llama.cpp cannot; a chat
    prompt begins with a special token, so there it is as good as never.
    """
    for part in _flattened(described.get("pre_tokenizer"), "pretokenizers"):
        if part.get("type") == "Metaspace":
            return part.get("prepend_scheme") == "always"
    normalizers = _flattened(described.get("normalizer"), "normalizers")
    return any(part.get("type") == "Prepend" for part in normalizers)


# -- both -----------------------------------------------------------------------------------


def _with_holes(size: int) -> tuple[list[str], list[int]]:
    """Ids that no token has are filled, because embeddings are often padded."""
    return [f"[PAD{i}]" for i in range(size)], [UNUSED] * size


def _added(tokenizer: Any, described: Mapping[str, Any]) -> Iterator[tuple[int, str, int]]:
    """(id, text, type) of the tokens that are found in a text before it is cut up."""
    normalizers = [*_flattened(described.get("normalizer"), "normalizers")]
    shows_spaces = any(part.get("content") == _SPACE for part in normalizers)
    for token, added in tokenizer.added_tokens_decoder.items():
        if added.special or _looks_special(added.content):
            yield token, added.content, CONTROL
        elif added.normalized and shows_spaces:  # such a token is looked for among shown spaces
            yield token, added.content.replace(_SPACE, " "), USER_DEFINED
        else:
            yield token, added.content, USER_DEFINED


def _looks_special(text: str) -> bool:
    """Control tokens that their checkpoint does not mark as such."""
    bars = ("<|", "|>"), ("<\uff5c", "\uff5c>")  # the second are DeepSeek's wide bars
    return text == "<pad>" or any(text.startswith(a) and text.endswith(b) for a, b in bars)
