"""Read the numbers of a configuration, which people also write as text or as null."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from edge_router.errors import UserError

MOST: Final = 2**31 - 1  # what a GGUF holds of such a number, and llama.cpp counts with


def require_number(path: Path, what: str, value: Any, *, above: float = -math.inf) -> None:
    """Raise `UserError` unless `value` is a finite number above `above`."""
    fits = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if isinstance(value, bool) or not fits:
        raise UserError(f"{path}: {what} is {value!r:.60}, which is not a number; mend it there")
    if isinstance(value, int) and value > MOST:
        raise UserError(f"{path}: {what} is {value!r:.60}, which no model has; mend it there")
    if value <= above:
        raise UserError(f"{path}: {what} is {value!r:.60} and must be more than {above:g}")


def require_count(path: Path, what: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a whole number above 0."""
    require_number(path, what, value, above=0)
    if not isinstance(value, int):
        raise UserError(
            f"{path}: {what} is {value!r:.60}, which is not a whole number; mend it there"
        )
