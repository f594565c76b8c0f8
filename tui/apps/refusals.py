"""Why a key does nothing now: one sentence for every state in which it has nothing to do."""

from __future__ import annotations

from typing import Final

from tui.state.screenful import Status

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
