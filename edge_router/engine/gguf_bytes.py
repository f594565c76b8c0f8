"""Little-endian values out of a GGUF's header, never past the end of the file."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from typing import Final

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
_STRING: Final = 8
_ARRAY: Final = 9
_LENGTH: Final = struct.Struct("<Q")


class DamagedError(Exception):
    """The header asks for bytes that the file does not have, or makes no sense."""


class Cursor:
    """Reads little-endian values out of a buffer and never past its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)

    def skip(self, n: int) -> int:
        start = self.at
        if n < 0 or n > self.end - start:
            raise DamagedError("the file ends inside the header")
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
            raise DamagedError("a text in the header is not UTF-8") from error

    def skip_array(self) -> None:
        kind, count = self.u32(), self.u64()
        if kind in _SCALARS:
            self.skip(struct.calcsize(_SCALARS[kind]) * count)
        elif kind == _STRING:
            self._skip_strings(count)
        else:
            raise DamagedError(f"the header holds an array of unknown type {kind}")

    def _skip_strings(self, count: int) -> None:
        """A vocabulary has 150,000 of them, so without a call for each."""
        at, end, data, unpack = self.at, self.end, self.data, _LENGTH.unpack_from
        for _ in range(count):
            if at > end - 8:
                raise DamagedError("the file ends inside the header")
            at += 8 + unpack(data, at)[0]
        if at > end:
            raise DamagedError("the file ends inside the header")
        self.at = at


def read_value(cursor: Cursor) -> str | None:
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
    raise DamagedError(f"the header holds a value of unknown type {kind}")


def strings_of(raw: bytes) -> Iterator[bytes]:
    """The texts of an array of strings, as `GgufHeader.raw` holds it; none of another type."""
    kind, of, count = struct.unpack_from("<IIQ", raw) if len(raw) >= 16 else (0, 0, 0)
    if kind != _ARRAY or of != _STRING:
        return
    at = 16
    for _ in range(count):
        start = at + 8
        at = start + _LENGTH.unpack_from(raw, at)[0]
        yield raw[start:at]
