"""Which sheets and notes belong to a results file of which kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from edge_router.errors import UserError
from edge_router.results.advice_sheets import advice_notes, advice_sheets
from edge_router.results.file import Data, damage_named
from edge_router.results.policy_sheets import (
    differing_games,
    policy_notes,
    policy_sheets,
    policy_summary,
    tier_notes,
    tier_sheets,
    tier_summary,
)
from edge_router.results.speed_sheets import (
    calibration_notes,
    calibration_sheets,
    speed_notes,
    speed_sheets,
    thread_sheets,
)
from edge_router.screen.tables import Sheet

_SHEETS: Final[Mapping[str, Callable[[Data], list[Sheet]]]] = {
    "policies": policy_sheets,
    "tiers": tier_sheets,
    "speed": speed_sheets,
    "threads": thread_sheets,
    "calibration": calibration_sheets,
    "advice": advice_sheets,
}
_SUMMARIES: Final[Mapping[str, Callable[[Data], list[Sheet]]]] = {
    "policies": policy_summary,
    "tiers": tier_summary,
}
_NOTES: Final[Mapping[str, Callable[[Data], list[str]]]] = {
    "policies": policy_notes,
    "tiers": tier_notes,
    "speed": speed_notes,
    "threads": speed_notes,
    "calibration": calibration_notes,
    "advice": advice_notes,
}


def sheets_of(data: Data) -> list[Sheet]:
    """The tables of a results file. Raises UserError for a kind that this version does not know."""
    kind = str(data.get("kind"))
    if kind not in _SHEETS:
        raise UserError(
            f"there are no results of the kind {kind!r}; kinds are {', '.join(_SHEETS)}"
        )
    with damage_named(f"the {kind} results"):
        return _SHEETS[kind](data)


def summary_of(data: Data) -> list[Sheet]:
    """What a terminal shows first; all sheets where a kind has no summary."""
    make = _SUMMARIES.get(str(data.get("kind")))
    return make(data) if make else sheets_of(data)


def games_of(data: Data, *, full: bool, width: int) -> list[str]:
    """Lines about the games in which the rows differ; none for another kind."""
    return differing_games(data, full=full, width=width) if data["kind"] == "policies" else []


def notes_of(data: Data) -> list[str]:
    """Sentences that a reader of the tables must know."""
    kind = str(data.get("kind"))
    make = _NOTES.get(kind)
    with damage_named(f"the {kind} results"):
        return make(data) if make else []
