"""The file of an opening's KV: whole and for one key, or not taken at all.

    magic, key, number of pieces         what it is; compared byte for byte with what is wanted
    (length, SHA-256, KV) a piece        in order

A piece's digest covers the beginning of the file, the piece's number and its bytes: pieces cannot
be exchanged or left out. Each is checked before it is handed out, so llama.cpp never sees a byte
that was not written for this key.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

_MAGIC: Final = b"edge-router opening 1\n"
_COUNT: Final = struct.Struct("<I")
_LENGTH: Final = struct.Struct("<Q")
_DIGEST: Final = hashlib.sha256().digest_size


class WrongFileError(Exception):
    """The file is not what its key promises."""


def write_pieces(path: Path, key: bytes, count: int, pieces: Iterable[bytes]) -> None:
    """Write `count` pieces of KV under `key`; one is in memory at a time. Raises OSError."""
    head = _head(key, count)
    with path.open("wb") as file:
        file.write(head)
        for index, piece in enumerate(pieces):
            file.write(_LENGTH.pack(len(piece)))
            file.write(_digest(head, index, piece))
            file.write(piece)


def read_pieces(file: BinaryIO, key: bytes, count: int) -> Iterator[bytes]:
    """The pieces, each checked before it is given; raises `WrongFileError` where one is not right.

    Only at the end is it sure that the file holds nothing else. Raises OSError.
    """
    head = _head(key, count)
    if file.read(len(head)) != head:
        raise WrongFileError("it was written for something else")
    left = _bytes_left(file)
    for index in range(count):
        left -= _LENGTH.size + _DIGEST
        if left < 0:
            raise WrongFileError("it is cut short")
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        digest = file.read(_DIGEST)
        left -= length
        if left < 0:  # asked for, it would be made room for first
            raise WrongFileError("it is cut short")
        piece = file.read(length)
        if _digest(head, index, piece) != digest:
            raise WrongFileError(f"piece {index} has another checksum")
        yield piece
    if left:
        raise WrongFileError("more follows than belongs to it")


def _head(key: bytes, count: int) -> bytes:
    return _MAGIC + key + _COUNT.pack(count)


def _digest(head: bytes, index: int, piece: bytes) -> bytes:
    digest = hashlib.sha256(head + _COUNT.pack(index))
    digest.update(piece)
    return digest.digest()


def _bytes_left(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here
