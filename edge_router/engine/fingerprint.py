"""Tell whether GGUF files are builds of one model, because llama.cpp does not.

KV that moves between two models is taken over as long as layer count and row
sizes fit; with other weights, another tokenizer or another rope the text just
goes bad. `require_same_model` compares what the files' headers say, the vectors,
which every precision keeps in full, and a few rows of the matrices (once, for files that stay
as they are); `require_same_text` asks llama.cpp how two loaded files read and write text.

Converters say different things of one model. What changes neither the KV nor how
text becomes tokens may differ: all of general.*, the chat template, what llama.cpp
passes over, and what one file says and the other leaves to llama.cpp's default.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np

from edge_router import __version__
from edge_router.engine.file_notes import FileNote
from edge_router.engine.gguf_bytes import strings_of
from edge_router.engine.gguf_file import EMBEDDING, OUTPUT, GgufHeader, TensorInfo
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.llama_quantise import requantised
from edge_router.engine.same_weights import weight_differences
from edge_router.engine.tensor_values import tensor_values
from edge_router.errors import UserError

# Keys that change neither the KV nor how text becomes tokens.
_HARMLESS: Final = frozenset(
    f"tokenizer.ggml.{name}_token_id" for name in ("padding", "unknown", "mask", "cls", "seperator")
)
# Likewise, after the architecture's name. `rope.scaling.original_context_length` says what of the
# context's length does matter.
_HARMLESS_SHORT: Final = frozenset(
    ("vocab_size", "context_length", "tensor_data_layout", "rope.scaling.finetuned")
)
_ORIGINAL: Final = "rope.scaling.original_context_length"
_LIST: Final = "a list"
_SHOWN: Final = 60  # characters of a value
_ROUNDED: Final = ("F16", "BF16")
_DECISIVE: Final = frozenset({"tokenizer.ggml.model", "tokenizer.ggml.pre"})


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_same_model(headers: Sequence[GgufHeader]) -> None:
    """Raise `UserError` naming the difference unless all files are builds of one model."""
    for other in headers[1:]:
        # Reading and comparing weights takes 9 to 17 ms a pair; another version may see more.
        note = FileNote("same-model", (*headers[0].parts, *other.parts))
        if note.read().get("version") == __version__:
            continue
        _refuse(headers[0].path, other.path, _differences(headers[0], other))
        note.write({"version": __version__})


def _refuse(one: Path, other: Path, differences: Iterator[str]) -> None:
    """Raise `UserError` naming the first difference, if there is any."""
    difference = next(differences, None)
    if difference is not None:
        raise UserError(
            f"{one.name} and {other.name} are not builds of one model: "
            f"{difference}; the tiers of a ladder must be quantised from the same checkpoint"
        )


def _tokenizer_keys(header: GgufHeader) -> list[str]:
    return sorted(k for k in header.raw if k.startswith("tokenizer.ggml.") and k not in _HARMLESS)


def _differences(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
    """What differs, the most telling first."""
    if a.architecture != b.architecture:
        yield f"their architectures differ ({a.architecture} and {b.architecture})"
    yield from _metadata_differences(a, b)
    yield from _tokenizer_differences(a, b)
    yield from _tensor_differences(a, b)
    yield from _vector_differences(a, b)
    yield from weight_differences(a, b)


def _metadata_differences(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
    prefix = f"{a.architecture}."
    keys = {k for k in a.raw.keys() | b.raw.keys() if k.startswith(prefix)}
    if f"{prefix}rope.scaling.type" in keys:
        keys.add(f"{prefix}{_ORIGINAL}")
    for key in sorted(keys):
        if key.removeprefix(prefix) in _HARMLESS_SHORT or a.raw.get(key, b"") == b.raw.get(key):
            continue
        if _alike(_said(a, key), _said(b, key)):  # silent, or a number of another width
            continue
        yield f"{key} is {_shown(a, key)} in one and {_shown(b, key)} in the other"


def _alike(a: str | float | None, b: str | float | None) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6)
    return a == b != _LIST


def _said(header: GgufHeader, key: str) -> str | float | None:
    """What a file says, or what llama.cpp takes where it is silent; None where neither is known."""
    if key in header.raw and key not in header.metadata:
        return _LIST
    text = header.metadata.get(key) or _silent(header, key)
    try:
        return float(text)
    except ValueError:
        return text or None


def _silent(header: GgufHeader, key: str) -> str:
    """llama.cpp's value for a key of the architecture that is absent, "" where it has none."""
    kind, _, short = key.partition(".")

    def value(name: str) -> str:
        full = f"{kind}.{name}"
        return header.metadata.get(full, "" if full in header.raw else _silent(header, full))

    if short in ("attention.key_length", "attention.value_length"):
        width, heads = value("embedding_length"), value("attention.head_count")
        whole = width.isdecimal() and heads.isdecimal() and int(heads) > 0
        return str(int(width) // int(heads)) if whole else ""
    if short == "attention.head_count_kv":
        return value("attention.head_count")
    if short == "rope.dimension_count":
        return value("attention.key_length")
    if short == _ORIGINAL:
        return value("context_length")
    return {"rope.freq_base": "10000", "rope.scaling.type": "none"}.get(short, "")


def _shown(header: GgufHeader, key: str) -> str:
    if key not in header.raw:
        return "absent"
    return header.metadata.get(key, _LIST)[:_SHOWN]


def _tokenizer_differences(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
    for key in dict.fromkeys(_tokenizer_keys(a) + _tokenizer_keys(b)):
        same = a.raw.get(key) == b.raw.get(key) or a.metadata.get(key, 0) == b.metadata.get(key, 1)
        if not same and not _has_default(a, b, key) and not _is_passed_over(a, b, key):
            yield f"their tokenizers differ ({key}{_where(a, b, key)})"


def _where(a: GgufHeader, b: GgufHeader, key: str) -> str:
    """How two values differ: " is X in one and Y in the other", in lists of texts the first."""
    if key in a.metadata or key in b.metadata:
        return f" is {_shown(a, key)} in one and {_shown(b, key)} in the other"
    texts = zip_longest(strings_of(a.raw.get(key, b"")), strings_of(b.raw.get(key, b"")))
    for number, (one, other) in enumerate(texts):
        if one != other:
            shown = [repr((t or b"")[:_SHOWN].decode("utf-8", "replace")) for t in (one, other)]
            return f": number {number} is {shown[0]} in one and {shown[1]} in the other"
    return ""


def _is_passed_over(a: GgufHeader, b: GgufHeader, key: str) -> bool:
    """Byte-level BPE goes by its merges; some converters write scores as well."""
    kinds = {header.metadata.get("tokenizer.ggml.model") for header in (a, b)}
    return key == "tokenizer.ggml.scores" and kinds == {"gpt2"}


def _has_default(a: GgufHeader, b: GgufHeader, key: str) -> bool:
    """Whether only one file says it and the other may mean the same by its silence.

    What llama.cpp takes then depends on the kind of tokenizer; `require_same_text` asks it.
    """
    only_one = (key in a.raw) != (key in b.raw)
    is_scalar = key in a.metadata or key in b.metadata
    return only_one and is_scalar and key not in _DECISIVE


def _tensor_differences(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
    for name in dict.fromkeys([*a.tensors, *b.tensors]):
        one, other = _named(a, name), _named(b, name)
        if one is None or other is None:
            yield f"only one of them has the tensor {name}"
        elif one.shape != other.shape:
            yield f"tensor {name} has the shape {one.shape} in one and {other.shape} in the other"


def _named(header: GgufHeader, name: str) -> TensorInfo | None:
    """A tensor; the embedding for an output matrix that is not there, as llama.cpp takes it."""
    tied = header.tensors.get(EMBEDDING) if name == OUTPUT else None
    return header.tensors.get(name, tied)


def _vector_differences(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
    for name, one in a.tensors.items():
        if len(one.shape) == 1 and not _same_vector(one, b.tensors[name]):
            yield f"their weights come from different checkpoints (tensor {name})"


def _same_vector(one: TensorInfo, other: TensorInfo) -> bool:
    """Equal, or one is the other in the precision that a converter had it in on its way."""
    x, y = tensor_values(one), tensor_values(other)
    if np.array_equal(x, y):
        return True
    on_its_way = ((requantised(kind, v[None]), w) for kind in _ROUNDED for v, w in ((x, y), (y, x)))
    return any(found is not None and np.array_equal(found[0], w) for found, w in on_its_way)


_SETTINGS: Final = (
    "the token that begins a text",
    "the token that ends a text",
    "the token that ends a turn",
    "add_bos_token",
    "add_eos_token",
)
_TEXTS: Final = (
    "You are in the middle of a room. You see a cabinet 12.",
    " a  b\n\n\tc \r\n",
    "don't 1234567 x+=1 __init__ <|im_start|><s></s> \u00e4\u4f60\u597d\U0001f600",
)


def require_same_text(models: Sequence[LlamaModel]) -> None:
    """Raise `UserError` naming the difference unless all vocabularies do the same.

    A GGUF may leave out how its tokenizer is set, and llama.cpp's default depends on the kind of
    tokenizer: two builds of one model may say the same in different words. What the loaded
    vocabularies do settles it.
    """
    for other in models[1:]:
        _refuse(models[0].path, other.path, _text_differences(models[0], other))


def _text_differences(a: LlamaModel, b: LlamaModel) -> Iterator[str]:
    if a.n_vocab != b.n_vocab:
        yield f"one has {a.n_vocab} tokens and the other {b.n_vocab}"
        return
    for what, one, two in zip(_SETTINGS, a.text_settings(), b.text_settings(), strict=True):
        if one != two:
            yield f"{what} is {one} in one and {two} in the other"
    for text in _TEXTS:
        if a.tokenize(text) != b.tokenize(text):
            yield f"they make other tokens of the text {text!r}"
    if [i for i in range(a.n_vocab) if a.is_eog(i) != b.is_eog(i)]:
        yield "other tokens end a text"
