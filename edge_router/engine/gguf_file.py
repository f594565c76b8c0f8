"""Read a GGUF's header before llama.cpp does, because llama.cpp may crash where we must explain.

`read_header(path)` checks everything that can be checked without touching a
weight: the magic, every length and count against the size of the file, and
that every tensor lies inside the file. A file that passes is whole; one that
does not is told apart in one sentence (`UserError`). The header also answers
what a ladder needs to know of a file it has not loaded: metadata, tensor
shapes and types, and the raw bytes of the tokenizer for its hash.

The layout is GGUF v2 and v3, little endian: magic, version, tensor count, key
count, key/value pairs, tensor infos, padding, tensor data.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_router.errors import UserError

# ggml type -> (name, elements a block, bytes a block). The table is checked
# against the gguf package's by tests/test_engine_gguf_file.py.
GGML_TYPES: Final[Mapping[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}
FLOAT_TYPES: Final = frozenset({"F32", "F16", "BF16", "F64"})

_SCALARS: Final[Mapping[int, str]] = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_LFS_POINTER: Final = b"version https://git-lfs"
_STRING: Final = 8
_ARRAY: Final = 9


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: `shape` is ggml's (columns first), `offset` is from the start."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    n_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF says of itself.

    `metadata` holds the scalar values as text, numbers as Python writes them
    and booleans as "true"/"false"; arrays are left out. `raw` maps every key,
    arrays too, to its value as it lies in the file (type byte included).
    """

    path: Path
    size_bytes: int
    metadata: dict[str, str]
    raw: dict[str, bytes]
    tensors: dict[str, TensorInfo]

    @property
    def architecture(self) -> str:
        return self.metadata.get("general.architecture", "")

    @property
    def type_names(self) -> frozenset[str]:
        return frozenset(t.type_name for t in self.tensors.values())


class _DamagedError(Exception):
    """The header asks for bytes that the file does not have, or makes no sense."""


class _Cursor:
    """Reads little-endian values out of a buffer and never past its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)

    def skip(self, n: int) -> int:
        start = self.at
        if n < 0 or n > self.end - start:
            raise _DamagedError("the file ends inside the header")
        self.at = start + n
        return start

    def scalar(self, fmt: str) -> int | float | bool:
        start = self.skip(struct.calcsize(fmt))
        value: int | float | bool = struct.unpack_from(fmt, self.data, start)[0]
        return value

    def u32(self) -> int:
        return int(self.scalar("<I"))

    def u64(self) -> int:
        return int(self.scalar("<Q"))

    def string(self) -> str:
        n = self.u64()
        start = self.skip(n)
        try:
            return self.data[start : self.at].decode("utf-8")
        except UnicodeDecodeError as error:
            raise _DamagedError("a text in the header is not UTF-8") from error

    def skip_array(self) -> None:
        kind, count = self.u32(), self.u64()
        if kind in _SCALARS:
            self.skip(struct.calcsize(_SCALARS[kind]) * count)
        elif kind == _STRING:
            if count > (self.end - self.at) // 8:
                raise _DamagedError("the file ends inside the header")
            for _ in range(count):
                self.skip(self.u64())
        else:
            raise _DamagedError(f"the header holds an array of unknown type {kind}")


def refuse_lfs_pointer(path: Path) -> None:
    """Raise `UserError` for the stub that a clone without git-lfs has in place of a large file."""
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise UserError(
                f"{path} is not the file itself but a git-lfs pointer to it; run git lfs pull in "
                "its folder, or download it again"
            )


def read_header(path: Path) -> GgufHeader:
    """Header of the GGUF at `path`, checked against the size of the file.

    Raises `UserError` when the file is missing, is no GGUF, or is not whole.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"the model file {path} {what}; give the path of a GGUF file")
    try:
        refuse_lfs_pointer(path)
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise UserError(f"{path} is not a GGUF file: it does not begin with 'GGUF'")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(path, _Cursor(data))
    except OSError as error:
        raise UserError(f"the model file {path} cannot be read: {error.strerror}") from error
    except _DamagedError as error:
        raise UserError(
            f"the GGUF file {path} is truncated or damaged ({error}); download or convert it again"
        ) from error


def _parse(path: Path, cursor: _Cursor) -> GgufHeader:
    cursor.skip(4)
    version = cursor.u32()
    if version not in (2, 3):
        if int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3):
            raise UserError(
                f"{path} is a big-endian GGUF, for other processors; take the little-endian one, "
                "or turn it into one with gguf's gguf-convert-endian"
            )
        raise UserError(f"{path} is GGUF version {version}, and only versions 2 and 3 can be read")
    n_tensors, n_keys = cursor.u64(), cursor.u64()
    metadata: dict[str, str] = {}
    raw: dict[str, bytes] = {}
    for _ in range(n_keys):
        key = cursor.string()
        start = cursor.at
        value = _value(cursor)
        if value is not None:
            metadata[key] = value
        raw[key] = cursor.data[start : cursor.at]
    tensors = _tensors(cursor, n_tensors, _alignment(metadata))
    return GgufHeader(path, cursor.end, metadata, raw, tensors)


def _value(cursor: _Cursor) -> str | None:
    """The next value as text; None for an array, which is skipped."""
    kind = cursor.u32()
    if kind in _SCALARS:
        value = cursor.scalar(_SCALARS[kind])
        return str(value).lower() if isinstance(value, bool) else str(value)
    if kind == _STRING:
        return cursor.string()
    if kind == _ARRAY:
        cursor.skip_array()
        return None
    raise _DamagedError(f"the header holds a value of unknown type {kind}")


def _alignment(metadata: Mapping[str, str]) -> int:
    text = metadata.get("general.alignment", "32")
    alignment = int(text) if text.isdigit() else 0
    if alignment <= 0 or alignment & (alignment - 1):
        raise _DamagedError(f"the alignment {text} is not a power of two")
    return alignment


def _tensors(cursor: _Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    infos: list[tuple[str, tuple[int, ...], str, int, int]] = []
    for _ in range(count):
        infos.append(_tensor(cursor, alignment))
    base = (cursor.at + alignment - 1) // alignment * alignment
    tensors: dict[str, TensorInfo] = {}
    for name, shape, type_name, offset, n_bytes in infos:
        if base + offset + n_bytes > cursor.end:
            missing = base + offset + n_bytes - cursor.end
            raise _DamagedError(f"tensor {name} reaches {missing} bytes past the end of the file")
        if name in tensors:
            raise _DamagedError(f"tensor {name} is listed twice")
        tensors[name] = TensorInfo(name, shape, type_name, base + offset, n_bytes)
    return tensors


def _tensor(cursor: _Cursor, alignment: int) -> tuple[str, tuple[int, ...], str, int, int]:
    name = cursor.string()
    n_dims = cursor.u32()
    if not 1 <= n_dims <= 4:
        raise _DamagedError(f"tensor {name} has {n_dims} dimensions")
    shape = tuple(cursor.u64() for _ in range(n_dims))
    kind, offset = cursor.u32(), cursor.u64()
    if kind not in GGML_TYPES:
        raise _DamagedError(f"tensor {name} is of unknown type {kind}")
    type_name, block, block_bytes = GGML_TYPES[kind]
    elements = 1
    for n in shape:
        elements *= n
    if elements == 0 or shape[0] % block or offset % alignment:
        raise _DamagedError(f"tensor {name} has an impossible shape or place")
    return name, shape, type_name, offset, elements // block * block_bytes
