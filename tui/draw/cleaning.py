"""Events cleaned for the screen: what files and models say is shown, and steers nothing."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, TypeVar, cast

from edge_router.screen.printable import clean, one_line

T = TypeVar("T")
_MANY_LINES: Final = {"text", "thought", "draft", "observation"}  # the fields that keep theirs


def cleaned(event: T) -> T:
    """The event with every text in it as it can be shown."""
    return cast(T, _cleaned(event, ""))


def _cleaned(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return clean(value) if name in _MANY_LINES else one_line(value)
    if isinstance(value, tuple):
        return tuple(_cleaned(item, name) for item in value)
    if isinstance(value, dict):
        return {_cleaned(key, name): item for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        values = {field.name: getattr(value, field.name) for field in fields(value)}
        return replace(value, **{key: _cleaned(item, key) for key, item in values.items()})
    return value
