"""Why a game was lost, in one of a few classes that can be counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from edge_router.agent.events import EpisodeStarted, Event, StepFinished, TurnsDropped
from edge_router.tasks.registry import find_task

_LOOP: Final = 5  # the last steps of a refused loop are this many times the same


def classify(events: Iterable[Event]) -> str:
    """The class of a lost episode: what any game can be lost by, else what its task says."""
    task, goal, steps, dropped = "", "", list[tuple[str, bool]](), False
    for event in events:
        if isinstance(event, EpisodeStarted):
            task, goal = event.task, event.goal
        elif isinstance(event, StepFinished):
            steps.append((event.action, event.refused))
        dropped = dropped or isinstance(event, TurnsDropped)
    return classify_steps(task, goal, steps, dropped=dropped)


def classify_steps(
    task: str, goal: str, steps: Sequence[tuple[str, bool]], *, dropped: bool = False
) -> str:
    """The class of a lost episode by its steps: each one's action, and whether it was refused.

    `dropped`: turns of the history were left out, as the context was full.
    """
    last = steps[-_LOOP:]
    if len(last) == _LOOP and len({action for action, _ in last}) == 1 and last[-1][1]:
        return "refused loop"
    if dropped:
        return "context overflow"
    return find_task(task).why_lost(goal, [action for action, refused in steps if not refused])
