"""Read JSON and TOML that a stranger may have written; every such file is opened here.

    data = read_object(path, "a cost profile")     # a JSON object
    data = read_toml(path, "settings")             # a TOML document
    line = parse_json(b'{"type": "step"}')         # text that was read already

Only regular files are read: a pipe would wait for its other end for ever. Size and depth are
limited, the text has to be UTF-8 (with or without a byte order mark). Whatever is wrong is one
sentence that names the file; whether the content means anything is the caller's question.

    record = from_plain(GameRecord, data)          # a dataclass, if the data has its form

`dataclasses.asdict` is the way out; `from_plain` is the way back, so that a damaged or foreign
file is noticed where it is read and not where a field is used.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints

from edge_router.errors import UserError
from edge_router.files.paths import why_not_regular

MAX_BYTES: Final = 16 << 20  # 16 MiB of "[]," become 400 MB of lists
MAX_TOML_BYTES: Final = 1 << 18
MAX_DEPTH: Final = 64
_MAX_DOTS: Final = 100  # in a line: tomllib's time grows with the square of a key's parts
_PIECE: Final = 1 << 20


class UnreadableError(UserError):
    """A file is not what it should be; `reason` is the sentence without the file."""

    def __init__(self, path: Path, what: str, reason: str) -> None:
        super().__init__(f"{path} cannot be read as {what}: {reason}")
        self.reason = reason


def read_json(path: Path, what: str = "JSON") -> Any:
    """What a JSON file holds. Raises `UnreadableError`."""
    data = read_file(path, what)
    try:
        return parse_json(data)
    except ValueError as error:
        raise UnreadableError(path, what, str(error)) from error


def read_object(path: Path, what: str) -> dict[str, Any]:
    """The object that a JSON file holds. Raises `UnreadableError`."""
    data = read_json(path, what)
    if not isinstance(data, dict):
        raise UnreadableError(path, what, "it holds no JSON object")
    return data


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """What a TOML file holds. Raises `UnreadableError`."""
    data = read_file(path, what, limit=MAX_TOML_BYTES)
    try:
        return parse_toml(data)
    except ValueError as error:
        raise UnreadableError(path, what, str(error)) from error


def parse_json(data: bytes | str) -> Any:
    """What JSON text means. Raises ValueError, with a reason that a person can read."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES >> 20} MiB")
    text = _decoded(data) if isinstance(data, bytes) else data
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from error
    return _shallow(found)


def parse_toml(data: bytes) -> dict[str, Any]:
    """What TOML text means. Raises ValueError, with a reason that a person can read."""
    text = _decoded(data)
    if any(line.count(".") > _MAX_DOTS for line in text.splitlines()):
        raise ValueError(f"a line has more than {_MAX_DOTS} dots")
    try:
        found = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (ValueError, OverflowError) as error:
        raise ValueError(f"it is not TOML ({error})") from error
    return dict(_shallow(found))


def read_file(path: Path, what: str, *, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Raises `UnreadableError`."""
    try:
        # without O_NONBLOCK opening a pipe would wait for somebody who writes into it
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _content(descriptor, path, what, limit)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise UnreadableError(path, what, "there is no such file") from error
    except OSError as error:
        raise UnreadableError(path, what, error.strerror or str(error)) from error
    except ValueError as error:  # a zero byte in the name
        raise UserError(f"{str(path)!r:.80} is no file name") from error


def _content(descriptor: int, path: Path, what: str, limit: int) -> bytes:
    found = os.fstat(descriptor)
    wrong = why_not_regular(found.st_mode)
    if wrong:
        raise UnreadableError(path, what, f"it {wrong}")
    pieces, length = list[bytes](), 0
    while piece := os.read(descriptor, _PIECE):
        pieces.append(piece)
        length += len(piece)
        if length > limit:
            shown = f"{limit >> 20} MiB" if limit >> 20 else f"{limit >> 10} KiB"
            raise UnreadableError(path, what, f"it is larger than {shown}")
    return b"".join(pieces)


def require_regular_or_new(path: Path, what: str, *, or_terminal: bool = False) -> None:
    """Raise `UserError` when something that is no file lies where one is to be written.

    `or_terminal` lets pass what takes characters and never waits: a terminal, /dev/null.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # not there, or the writer will say why not
    wrong = why_not_regular(mode)
    if wrong and not (or_terminal and stat.S_ISCHR(mode)):
        raise UserError(f"{what} {path} cannot be written: it {wrong}; name a file")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")  # some editors put a byte order mark first
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start})") from error


def _shallow(found: Any) -> Any:
    """`found`, unless lists and tables lie too deep in it for those who walk through it."""
    level = [found]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return found
    raise ValueError("it is nested too deeply")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


# -- dataclasses from plain data -----------------------------------------------------------------


T = TypeVar("T")


class NotUnderstoodError(Exception):
    """The data does not have the form that was expected."""


def from_plain(kind: type[T], data: object) -> T:
    """An instance of the dataclass `kind`; keys that it does not know are ignored."""
    return cast(T, _build(kind, data))


def _build(kind: Any, data: object) -> Any:
    if is_dataclass(kind):
        return _dataclass(kind, data)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(data, list):
        return tuple(_build(arguments[0], item) for item in data)
    if origin is dict and isinstance(data, dict):
        return {key: _build(arguments[1], value) for key, value in data.items()}
    if origin is UnionType:
        (other,) = (a for a in arguments if a is not NoneType)
        return None if data is None else _build(other, data)
    if kind is Any:
        return data
    if kind is float and type(data) is int and abs(data) < 2**53:
        return float(data)
    if (type(data) is int and abs(data) >= 2**63) or (type(data) is float and not isfinite(data)):
        raise NotUnderstoodError(f"{data!r:.40} is out of range")
    if type(data) is not kind:
        raise NotUnderstoodError(f"{data!r:.40} is no {getattr(kind, '__name__', kind)}")
    return data


def _dataclass(kind: Any, data: object) -> Any:
    if not isinstance(data, dict):
        raise NotUnderstoodError(f"{data!r:.40} is no object")
    hints, values = get_type_hints(kind), {}
    for field in fields(kind):
        if field.name in data:
            values[field.name] = _build(hints[field.name], data[field.name])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise NotUnderstoodError(f"{field.name} is missing")
    return kind(**values)
