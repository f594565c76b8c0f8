"""Read a GGUF's header before llama.cpp does, because llama.cpp may crash where we must explain.

`read_header(path)` checks everything that can be checked without touching a
weight: the magic, every length and count against the size of the file, and
that every tensor lies inside the file, and no two tokens are the same. A file
that passes is whole; one that does not is named in one sentence
(`UserError`). The header also says what a ladder needs to know of a file it
has not loaded: metadata, tensor shapes and types, and the raw bytes of the
tokenizer for its hash.

The layout is GGUF v2 and v3, little endian: magic, version, tensor count, key
count, key/value pairs, tensor infos, padding, tensor data. A model may come in
parts, NAME-00001-of-00003.gguf and so on: each is a GGUF with some of the
tensors, the first has the metadata, and its path stands for the whole model.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge_router.engine.gguf_bytes import Cursor, DamagedError, read_value, strings_of
from edge_router.errors import UserError
from edge_router.files.paths import why_no_file

# Tensors that have a part of their own: a model may use the first for both.
EMBEDDING: Final = "token_embd.weight"
OUTPUT: Final = "output.weight"
# ggml type -> (name, elements a block, bytes a block). The table is checked
# against the gguf package's by tests/engine/test_gguf_file.py.
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
TYPE_NUMBERS: Final = {name: number for number, (name, _, _) in GGML_TYPES.items()}
FLOAT_TYPES: Final = frozenset({"F32", "F16", "BF16", "F64"})

_LFS_POINTER: Final = b"version https://git-lfs"
_MAGIC: Final = b"GGUF"
_PART_NAME: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: `shape` is ggml's (columns first), `offset` from `file`'s start."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    n_bytes: int
    file: Path


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF says of itself; `size_bytes` and `tensors` are those of all its `parts`.

    `metadata` holds the scalar values as text, numbers as Python writes them
    and booleans as "true"/"false"; arrays are left out. `raw` maps every key,
    arrays too, to its value as it lies in the file (type byte included).
    """

    path: Path
    size_bytes: int
    metadata: dict[str, str]
    raw: dict[str, bytes]
    tensors: dict[str, TensorInfo]
    parts: tuple[Path, ...]  # `path` first

    @property
    def architecture(self) -> str:
        return self.metadata.get("general.architecture", "")

    @property
    def type_names(self) -> frozenset[str]:
        return frozenset(t.type_name for t in self.tensors.values())


def is_gguf(path: Path) -> bool:
    """Whether `path` is a file that begins as a GGUF does."""
    if why_no_file(path):
        return False
    try:
        with path.open("rb") as file:
            return file.read(4) == _MAGIC
    except OSError:
        return False


def refuse_lfs_pointer(path: Path) -> None:
    """Raise `UserError` for the stub that a clone without git-lfs has in place of a large file."""
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise UserError(
                f"{path} is not the file itself but a git-lfs pointer to it; run git lfs pull in "
                "its folder, or download it again"
            )


def read_header(path: Path) -> GgufHeader:
    """Header of the GGUF at `path`, checked against the size of the file; of all parts, if any.

    Raises `UserError` when the file is missing, is no GGUF, or is not whole, when a part of
    the model is missing, and when `path` is not the first part.
    """
    first = _read_file(Path(path))
    count = _split_value(first, "count")
    if count <= 1:
        return first
    names = _part_names(first, count)
    return _joined([first, *(_read_part(first, n, name) for n, name in enumerate(names[1:], 2))])


# -- parts ----------------------------------------------------------------------------------------


def _split_value(header: GgufHeader, key: str) -> int:
    text = header.metadata.get(f"split.{key}", "0")
    return int(text) if text.isdecimal() else 0


def _part_names(first: GgufHeader, count: int) -> list[str]:
    """File names of all parts; llama.cpp finds them by these. Raises `UserError`."""
    path, number = first.path, _split_value(first, "no") + 1
    match = _PART_NAME.fullmatch(path.name)
    stem = match[1] if match else path.stem
    names = [f"{stem}-{n:05d}-of-{count:05d}.gguf" for n in range(1, count + 1)]
    if number != 1:
        known = f", {path.with_name(names[0])}" if match else ""
        raise UserError(
            f"{path} is part {number} of {count} of a model; give the first part{known}"
        )
    if path.name != names[0]:
        raise UserError(
            f"{path} is the first of {count} parts of a model, which are found by their names; "
            f"call it {names[0]} again, as it was published"
        )
    return names


def _read_part(first: GgufHeader, number: int, name: str) -> GgufHeader:
    path, count = first.path.with_name(name), _split_value(first, "count")
    if why_no_file(path) == "does not exist":
        raise UserError(
            f"{first.path} is the first of {count} parts of a model and part {number}, {path}, is "
            "missing; put all parts into one folder"
        )
    part = _read_file(path)
    if (_split_value(part, "no") + 1, _split_value(part, "count")) != (number, count):
        raise UserError(
            f"{path} does not say that it is part {number} of {count}; download the parts again"
        )
    return part


def _joined(parts: list[GgufHeader]) -> GgufHeader:
    """One header for the model that the parts make up."""
    first, tensors = parts[0], dict[str, TensorInfo]()
    for part in parts:
        twice = next((name for name in part.tensors if name in tensors), None)
        if twice is not None:
            raise UserError(f"{part.path} has the tensor {twice}, which an earlier part has too")
        tensors |= part.tensors
    total = _split_value(first, "tensors.count")
    if total and total != len(tensors):
        raise UserError(
            f"the {len(parts)} parts of {first.path} hold {len(tensors)} tensors and {total} "
            "belong to the model; download the parts again"
        )
    size = sum(part.size_bytes for part in parts)
    return replace(
        first, size_bytes=size, tensors=tensors, parts=tuple(part.path for part in parts)
    )


# -- one file -------------------------------------------------------------------------------------


def _read_file(path: Path) -> GgufHeader:
    wrong = why_no_file(path)
    if wrong:
        raise UserError(f"the model file {path} {wrong}; give the path of a GGUF file")
    try:
        refuse_lfs_pointer(path)
        with path.open("rb") as file:
            if file.read(4) != _MAGIC:
                raise UserError(f"{path} is not a GGUF file: it does not begin with 'GGUF'")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(path, Cursor(data))
    except OSError as error:
        raise UserError(f"the model file {path} cannot be read: {error.strerror}") from error
    except DamagedError as error:
        raise UserError(
            f"the GGUF file {path} is truncated or damaged ({error}); download or convert it again"
        ) from error


def _parse(path: Path, cursor: Cursor) -> GgufHeader:
    cursor.skip(4)
    version = cursor.u32()
    if version in (2 << 24, 3 << 24):  # 2 or 3 with its bytes the other way round
        raise UserError(
            f"{path} is a big-endian GGUF, for other processors; take the little-endian one, "
            "or turn it into one with gguf's gguf-convert-endian"
        )
    if version not in (2, 3):
        raise UserError(f"{path} is GGUF version {version}, and only versions 2 and 3 can be read")
    n_tensors, n_keys = cursor.u64(), cursor.u64()
    metadata: dict[str, str] = {}
    raw: dict[str, bytes] = {}
    for _ in range(n_keys):
        key = cursor.string()
        start = cursor.at
        value = read_value(cursor)
        if value is not None:
            metadata[key] = value
        raw[key] = cursor.data[start : cursor.at]
    _check_tokens(raw)
    tensors = _tensors(path, cursor, n_tensors, _alignment(metadata))
    return GgufHeader(path, cursor.end, metadata, raw, tensors, (path,))


def _check_tokens(raw: Mapping[str, bytes]) -> None:
    """llama.cpp ends the process at a vocabulary that has a token twice."""
    ids: dict[bytes, int] = {}
    for number, text in enumerate(strings_of(raw.get("tokenizer.ggml.tokens", b""))):
        text = text or b"[EMPTY_%d]" % number  # as llama.cpp calls a token without a text
        if text in ids:
            shown = text.decode("utf-8", "replace")
            raise DamagedError(f"the tokens {ids[text]} and {number} are the same, {shown!r}")
        ids[text] = number


def _alignment(metadata: Mapping[str, str]) -> int:
    text = metadata.get("general.alignment", "32")
    alignment = int(text) if text.isdigit() else 0
    if alignment <= 0 or alignment & (alignment - 1):
        raise DamagedError(f"the alignment {text} is not a power of two")
    return alignment


def _tensors(path: Path, cursor: Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    infos: list[tuple[str, tuple[int, ...], str, int, int]] = []
    for _ in range(count):
        infos.append(_tensor(cursor, alignment))
    base = (cursor.at + alignment - 1) // alignment * alignment
    tensors: dict[str, TensorInfo] = {}
    for name, shape, type_name, offset, n_bytes in infos:
        if base + offset + n_bytes > cursor.end:
            missing = base + offset + n_bytes - cursor.end
            raise DamagedError(f"tensor {name} reaches {missing} bytes past the end of the file")
        if name in tensors:
            raise DamagedError(f"tensor {name} is listed twice")
        tensors[name] = TensorInfo(name, shape, type_name, base + offset, n_bytes, path)
    return tensors


def _tensor(cursor: Cursor, alignment: int) -> tuple[str, tuple[int, ...], str, int, int]:
    name = cursor.string()
    n_dims = cursor.u32()
    if not 1 <= n_dims <= 4:
        raise DamagedError(f"tensor {name} has {n_dims} dimensions")
    shape = tuple(cursor.u64() for _ in range(n_dims))
    kind, offset = cursor.u32(), cursor.u64()
    if kind not in GGML_TYPES:
        raise DamagedError(f"tensor {name} is of unknown type {kind}")
    type_name, block, block_bytes = GGML_TYPES[kind]
    elements = 1
    for n in shape:
        elements *= n
    if elements == 0 or shape[0] % block or offset % alignment:
        raise DamagedError(f"tensor {name} has an impossible shape or place")
    return name, shape, type_name, offset, elements // block * block_bytes
