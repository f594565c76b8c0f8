"""What callers of the library give as numbers and routers: in one sentence where it is of no use.

The command line and the server check theirs while they read them; a program may give anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Final

from edge_router.errors import UserError

_WHOLE: Final = {  # the least of each
    "context": 1,
    "threads": 1,
    "slots": 1,
    "max_steps": 1,
    "max_tokens": 1,
    "seed": 0,
    "top_k": 0,
    "lookup": 0,
    "likely": 0,
}
_MAY_BE_NONE: Final = frozenset({"context", "threads", "likely", "budget"})


def require_numbers(**given: object) -> None:
    """Raise `UserError` for the first that is no number of its kind; others are numbers."""
    for name, value in given.items():
        if value is None and name in _MAY_BE_NONE:
            continue
        if name in _WHOLE:
            _require_whole(name, value, _WHOLE[name])
        elif not _is_number(value):
            raise UserError(f"{name} is a number, not {value!r}")


def _require_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise UserError(f"{name} is a whole number, at least {least}, not {value!r}")


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and not math.isnan(value)


def require_layers(gpu_layers: object) -> None:
    """Raise `UserError` unless it is "auto" or a number of layers."""
    whole = isinstance(gpu_layers, int) and not isinstance(gpu_layers, bool) and gpu_layers >= -1
    if gpu_layers != "auto" and not whole:
        raise UserError(f'gpu_layers is "auto", -1 for all or a number, not {gpu_layers!r}')


def require_texts(name: str, given: object) -> None:
    """Raise `UserError` unless it is a text or several."""
    if not isinstance(given, Sequence) or not all(isinstance(text, str) for text in given):
        raise UserError(f"{name} is a text or several, not {given!r}")


def require_router(router: object) -> None:
    """Raise `UserError` unless it is a router or names one."""
    if not isinstance(router, str) and not all(
        hasattr(router, name) for name in ("spec", "decide_at", "reset", "decide")
    ):
        raise UserError(f'a router is named ("auto", "low", ...) or a Router, not {router!r}')
