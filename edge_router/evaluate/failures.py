"""Why a household game was lost, in one of a few classes that can be counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edge_router.agent.events import EpisodeStarted, Event, StepFinished, TurnsDropped
from edge_router.tasks.household.expert import understand

CLASSES: Final = (
    "refused loop",
    "context overflow",
    "not found",
    "wrong object",
    "out of steps",
)
_LOOP: Final = 5  # the last steps of a refused loop are this many times the same


def classify(events: Iterable[Event]) -> str:
    """The class of a lost episode; "lost" for a task that is not one of ALFWorld's."""
    goal, steps, dropped = "", list[StepFinished](), False
    for event in events:
        if isinstance(event, EpisodeStarted):
            goal = event.goal
        elif isinstance(event, StepFinished):
            steps.append(event)
        dropped = dropped or isinstance(event, TurnsDropped)
    last = steps[-_LOOP:]
    if len(last) == _LOOP and len({s.action for s in last}) == 1 and last[-1].refused:
        return "refused loop"
    if dropped:
        return "context overflow"
    return _by_object(goal, steps)


def _by_object(goal: str, steps: list[StepFinished]) -> str:
    try:
        wanted = understand(goal).object
    except ValueError:
        return "lost"
    words = [s.action.split() for s in steps if not s.refused]
    taken = [w[1] for w in words if len(w) > 1 and w[0] == "take"]
    if not taken:
        return "not found"
    return "out of steps" if wanted in taken else "wrong object"
