"""What the apps say in sentences: of the pace, of keys that do nothing, and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_router.agent.escalation import lookup_sentence, summary, tokens_summary
from edge_router.agent.listeners.printer import outcome
from tui.draw.words import in_words
from tui.state.episode import Episode
from tui.state.screenful import Status

PACES: Final = (6.0, 3.0, 1.5, 1.0, 0.5, 0.25, 0.1, 0.0)  # seconds, from slow to fast
SLOWER, FASTER = -1, 1


def next_pace(pace: float, direction: int) -> float:
    """The next notch in a direction; at the end the same one."""
    now = min(range(len(PACES)), key=lambda i: abs(PACES[i] - pace))
    return PACES[min(len(PACES) - 1, max(0, now + direction))]


def change_of(before: float, pace: float, direction: int) -> str:
    """What a key for the pace has done, in one sentence."""
    if before != pace:
        how = "Slower" if direction == SLOWER else "Faster"
        return f"{how}: {in_words(pace)}."
    end = "slowest" if direction == SLOWER else "fastest"
    return f"That is the {end} pace: {in_words(pace)}."


# -- why a key does nothing now: one sentence for every state in which it has nothing to do ------


_LOADING: Final = "The game is still being loaded."
_STOPPING: Final = "The app ends after the step in hand; q again ends it at once."
_ENDED: Final = "The game has ended. Enter: the next one, r: this one again, v: look at it again."
_FAILED: Final = "No game is being played. Enter: the next one, r: try again, g: pick one."
_NOT_OVER: Final = "This game is not over yet. r: begin it again, g: pick another."
_NO_REPLAY: Final = "v shows a game again when it has ended; [ goes back in it now."

_STEERING = {Status.ENDED: _ENDED, Status.FAILED: _FAILED}
_BY_ACTION: Final = {
    "force": {Status.LOADING: _LOADING, **_STEERING},
    "auto": {Status.LOADING: _LOADING, **_STEERING},
    "pause": _STEERING,
    "one_step": _STEERING,
    "look": {Status.LOADING: _LOADING},
    "restart": {Status.LOADING: _LOADING},
    "next_game": dict.fromkeys((Status.LOADING, Status.RUNNING, Status.PAUSED), _NOT_OVER),
    "view": {
        Status.LOADING: _LOADING,
        Status.FAILED: _FAILED,
        **dict.fromkeys((Status.RUNNING, Status.PAUSED), _NO_REPLAY),
    },
}


def why_not(action: str, status: Status) -> str:
    """Why the action has no effect in this state; "" where it has one."""
    if status is Status.STOPPING:
        return _STOPPING
    return _BY_ACTION.get(action, {}).get(status, "")


# -- what is left on the terminal when the app has gone ------------------------------------------


def farewell(episode: Episode, won: int, played: int, traces: Sequence[Path]) -> list[str]:
    """The last game's result and each tier's share, how many games were won, the traces."""
    lines = []
    if episode.started is not None and episode.finished is not None:
        lines.append(f"{episode.started.goal} {_how(episode)}")
    if played > 1:
        lines.append(f"{won} of {played} games won")
    return lines + [f"trace: {path}" for path in traces if path.exists()]


def _how(episode: Episode) -> str:
    assert episode.finished is not None
    steps = [step.tier_index for step in episode.done_steps]
    shares = [
        f"{name} {100 * steps.count(tier) / len(steps):.0f} %"
        for tier, name in enumerate(episode.tiers)
        if steps
    ]
    finished = episode.finished
    parts = [outcome(finished), ", ".join(shares), summary(finished.escalations)]
    parts += [tokens_summary(finished.latency), lookup_sentence(finished.latency)]
    return "; ".join(filter(None, parts))
