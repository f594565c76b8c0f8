"""Tell whether GGUF files are builds of one model, because llama.cpp does not.

KV that moves between two models is taken over as long as layer count and row
sizes fit; with other weights, another tokenizer or another rope the text just
goes bad. `require_same_model` compares what the files' headers say, and the
norm weights, which every precision keeps in full: they tell two checkpoints of
one architecture apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from edge_router.engine.gguf_file import GgufHeader, TensorInfo
from edge_router.errors import UserError

# Keys that change neither the KV nor how text becomes tokens.
_HARMLESS: Final = frozenset({"tokenizer.ggml.padding_token_id", "tokenizer.ggml.unknown_token_id"})
_LIST: Final = "a list"
_DECISIVE: Final = frozenset({"tokenizer.ggml.model", "tokenizer.ggml.pre"})


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_same_model(headers: Sequence[GgufHeader]) -> None:
    """Raise `UserError` naming the difference unless all files are builds of one model."""
    for other in headers[1:]:
        difference = next(_differences(headers[0], other), None)
        if difference is not None:
            raise UserError(
                f"{headers[0].path.name} and {other.path.name} are not builds of one model: "
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
    yield from _norm_differences(a, b)


def _metadata_differences(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
    prefix = f"{a.architecture}."
    keys = sorted(k for k in a.raw.keys() | b.raw.keys() if k.startswith(prefix))
    for key in keys:
        if key == f"{prefix}vocab_size" or a.raw.get(key) == b.raw.get(key):
            continue
        if _said(a, key) == _said(b, key) != _LIST:  # silent, or a number of another width
            continue
        yield f"{key} is {_shown(a, key)} in one and {_shown(b, key)} in the other"


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
    return {"rope.freq_base": "10000", "rope.scaling.type": "none"}.get(short, "")


def _shown(header: GgufHeader, key: str) -> str:
    if key not in header.raw:
        return "absent"
    return header.metadata.get(key, _LIST)


def _tokenizer_differences(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
    for key in dict.fromkeys(_tokenizer_keys(a) + _tokenizer_keys(b)):
        same = a.raw.get(key) == b.raw.get(key) or a.metadata.get(key, 0) == b.metadata.get(key, 1)
        if not same and not _has_default(a, b, key):
            yield f"their tokenizers differ ({key})"


def _has_default(a: GgufHeader, b: GgufHeader, key: str) -> bool:
    """Whether only one file says it and the other may mean the same by its silence.

    What llama.cpp takes then depends on the kind of tokenizer; `require_same_text` asks it.
    """
    only_one = (key in a.raw) != (key in b.raw)
    is_scalar = key in a.metadata or key in b.metadata
    return only_one and is_scalar and key not in _DECISIVE


def _tensor_differences(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
    for name in dict.fromkeys([*a.tensors, *b.tensors]):
        if name not in a.tensors or name not in b.tensors:
            yield f"only one of them has the tensor {name}"
        elif a.tensors[name].shape != b.tensors[name].shape:
            yield (
                f"tensor {name} has the shape {a.tensors[name].shape} in one"
                f" and {b.tensors[name].shape} in the other"
            )


def _norm_differences(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
    for name, one in a.tensors.items():
        other = b.tensors[name]
        if len(one.shape) > 1 or {one.type_name, other.type_name} != {"F32"}:
            continue
        if _bytes(one) != _bytes(other):
            yield f"their weights come from different checkpoints (tensor {name})"


def _bytes(tensor: TensorInfo) -> bytes:
    with tensor.file.open("rb") as file:
        file.seek(tensor.offset)
        return file.read(tensor.n_bytes)
