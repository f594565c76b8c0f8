"""Build dataclasses from JSON's plain data and refuse what does not fit their annotations.

`dataclasses.asdict` is the way out; this is the way back, so that a damaged or
foreign file is noticed where it is read and not where a field is used.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from math import isfinite
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

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
