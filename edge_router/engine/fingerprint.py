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

from edge_router.engine.gguf_file import GgufHeader
from edge_router.errors import UserError

# Keys that change neither the KV nor how text becomes tokens.
_HARMLESS: Final = frozenset({"tokenizer.ggml.padding_token_id", "tokenizer.ggml.unknown_token_id"})


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tokenizer_sha256(header: GgufHeader) -> str:
    """SHA-256 over everything that decides how text becomes tokens."""
    digest = hashlib.sha256()
    for key in _tokenizer_keys(header):
        digest.update(key.encode() + b"\0" + header.raw[key])
    return digest.hexdigest()


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
        if a.raw.get(key) != b.raw.get(key) and key != f"{prefix}vocab_size":
            yield f"{key} is {_shown(a, key)} in one and {_shown(b, key)} in the other"


def _shown(header: GgufHeader, key: str) -> str:
    if key not in header.raw:
        return "absent"
    return header.metadata.get(key, "a list")


def _tokenizer_differences(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
    if tokenizer_sha256(a) == tokenizer_sha256(b):
        return
    for key in dict.fromkeys(_tokenizer_keys(a) + _tokenizer_keys(b)):
        if a.raw.get(key) != b.raw.get(key):
            yield f"their tokenizers differ ({key})"


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
    with a.path.open("rb") as file_a, b.path.open("rb") as file_b:
        for name, one in a.tensors.items():
            other = b.tensors[name]
            if len(one.shape) > 1 or {one.type_name, other.type_name} != {"F32"}:
                continue
            file_a.seek(one.offset)
            file_b.seek(other.offset)
            if file_a.read(one.n_bytes) != file_b.read(other.n_bytes):
                yield f"their weights come from different checkpoints (tensor {name})"
