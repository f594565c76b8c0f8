"""Write a GGUF from bytes: metadata as `GgufHeader.raw` holds it, tensors from quantised blocks.

    write_gguf(path, header.raw | {"qwen3.block_count": u32(28)}, tensors)

The gguf package quantises and needs arrays in memory. Here rows are put where they belong, and
what nobody writes is zero: on most disks a hole, which takes neither room nor time. In all of
ggml's types used here a block of zero bytes stands for weights that are zero.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.gguf_file import GGML_TYPES, TYPE_NUMBERS
from edge_router.files.whole import whole

Piece = tuple[int, bytes]  # bytes from the tensor's start, and what lies there
Pieces = Callable[[], Iterator[Piece]]

_ALIGNMENT: Final = 32
_U32, _I32, _F32, _STRING, _ARRAY = 4, 5, 6, 8, 9


@dataclass(frozen=True)
class NewTensor:
    """A tensor to write: `shape` is ggml's (columns first); `pieces` may leave holes."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    pieces: Pieces = lambda: iter(())

    @property
    def n_bytes(self) -> int:
        return row_bytes(self.type_name, self.shape[0]) * prod(self.shape[1:])


def float_vector(name: str, values: NDArray[np.float32]) -> NewTensor:
    """A tensor of `values`, shape (n,), as they are; norms are kept so."""
    data = values.astype("<f4").tobytes()
    return NewTensor(name, (len(values),), "F32", lambda: iter([(0, data)]))


def row_bytes(type_name: str, columns: int) -> int:
    """Bytes of a row. Raises ValueError where the blocks do not fill it."""
    _, block, size = GGML_TYPES[TYPE_NUMBERS[type_name]]
    if columns % block:
        raise ValueError(f"{columns} columns are no whole blocks of {type_name}")
    return columns // block * size


def write_gguf(path: Path, metadata: Mapping[str, bytes], tensors: Sequence[NewTensor]) -> None:
    """Write the file, whole or not at all. Raises `UserError` when the system refuses."""
    with whole(path) as partial, partial.open("wb") as file:
        file.write(_head(metadata, tensors))
        base = _padded(file.tell())
        for tensor, offset in zip(tensors, _offsets(tensors), strict=True):
            _write_tensor(file, tensor, base + offset)
        file.truncate(base + file_bytes(tensors))


def file_bytes(tensors: Sequence[NewTensor]) -> int:
    """Bytes of the tensors, padding included."""
    return sum(_padded(tensor.n_bytes) for tensor in tensors)


def _write_tensor(file: BinaryIO, tensor: NewTensor, start: int) -> None:
    for at, data in tensor.pieces():
        file.seek(start + at)
        file.write(data)


def _head(metadata: Mapping[str, bytes], tensors: Sequence[NewTensor]) -> bytes:
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        head += [_text(key.encode()), value]
    for tensor, offset in zip(tensors, _offsets(tensors), strict=True):
        head += [_text(tensor.name.encode()), struct.pack("<I", len(tensor.shape))]
        head.append(struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape))
        head.append(struct.pack("<IQ", TYPE_NUMBERS[tensor.type_name], offset))
    return b"".join(head)


def _offsets(tensors: Sequence[NewTensor]) -> Iterator[int]:
    offset = 0
    for tensor in tensors:
        yield offset
        offset += _padded(tensor.n_bytes)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


# -- metadata values ------------------------------------------------------------------------------


def u32(value: int) -> bytes:
    return struct.pack("<II", _U32, value)


def f32(value: float) -> bytes:
    return struct.pack("<If", _F32, value)


def text(value: str) -> bytes:
    return struct.pack("<I", _STRING) + _text(value.encode())


def texts(values: Sequence[bytes]) -> bytes:
    return struct.pack("<IIQ", _ARRAY, _STRING, len(values)) + b"".join(map(_text, values))


def numbers(values: Sequence[int]) -> bytes:
    """An array of 32-bit integers."""
    return struct.pack(f"<IIQ{len(values)}i", _ARRAY, _I32, len(values), *values)


def _text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value
