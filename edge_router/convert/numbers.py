"""Read the numbers of a configuration, which people also write as text or as null."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edge_router.errors import UserError


def require_number(path: Path, what: str, value: Any, *, above: float = -math.inf) -> None:
    """Raise `UserError` unless `value` is a finite number above `above`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{path}: {what} is {value!r}, which is not a number; mend it there")
    if value <= above:
        raise UserError(f"{path}: {what} is {value!r} and must be more than {above:g}")


def require_count(path: Path, what: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a whole number above 0."""
    require_number(path, what, value, above=0)
    if not isinstance(value, int):
        raise UserError(f"{path}: {what} is {value!r}, which is not a whole number; mend it there")
