"""Which sheets and notes belong to a results file of which kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from edge_router.bench.policy_sheets import policy_notes, policy_sheets, tier_notes, tier_sheets
from edge_router.bench.sheets import Sheet
from edge_router.bench.speed_sheets import (
    calibration_notes,
    calibration_sheets,
    speed_notes,
    speed_sheets,
)
from edge_router.errors import UserError

Data = Mapping[str, Any]
_SHEETS: Final[Mapping[str, Callable[[Data], list[Sheet]]]] = {
    "policies": policy_sheets,
    "tiers": tier_sheets,
    "speed": speed_sheets,
    "calibration": calibration_sheets,
}
_NOTES: Final[Mapping[str, Callable[[Data], list[str]]]] = {
    "policies": policy_notes,
    "tiers": tier_notes,
    "speed": speed_notes,
    "calibration": calibration_notes,
}


def sheets_of(data: Data) -> list[Sheet]:
    """The tables of a results file. Raises UserError for a kind that this version does not know."""
    kind = str(data.get("kind"))
    if kind not in _SHEETS:
        raise UserError(
            f"there are no results of the kind {kind!r}; kinds are {', '.join(_SHEETS)}"
        )
    try:
        return _SHEETS[kind](data)
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"the {kind} results are damaged: {error!r} is missing") from error


def notes_of(data: Data) -> list[str]:
    """Sentences that a reader of the tables must know."""
    make = _NOTES.get(str(data.get("kind")))
    return make(data) if make else []
