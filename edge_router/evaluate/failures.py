"""Why a household game was lost, in one of a few classes that can be counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    goal, steps, dropped = "", list[tuple[str, bool]](), False
    for event in events:
        if isinstance(event, EpisodeStarted):
            goal = event.goal
        elif isinstance(event, StepFinished):
            steps.append((event.action, event.refused))
        dropped = dropped or isinstance(event, TurnsDropped)
    return classify_steps(goal, steps, dropped=dropped)


def classify_steps(goal: str, steps: Sequence[tuple[str, bool]], *, dropped: bool = False) -> str:
    """The class of a lost episode by its steps: each one's action, and whether it was refused.

    `dropped`: turns of the history were left out, as the context was full.
    """
    last = steps[-_LOOP:]
    if len(last) == _LOOP and len({action for action, _ in last}) == 1 and last[-1][1]:
        return "refused loop"
    if dropped:
        return "context overflow"
    return _by_object(goal, steps)


def _by_object(goal: str, steps: Sequence[tuple[str, bool]]) -> str:
    try:
        wanted = understand(goal).object
    except ValueError:
        return "lost"
    words = [action.split() for action, refused in steps if not refused]
    taken = [w[1] for w in words if len(w) > 1 and w[0] == "take"]
    if not taken:
        return "not found"
    return "out of steps" if wanted in taken else "wrong object"
