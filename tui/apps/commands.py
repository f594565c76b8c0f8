"""What the command line opens: the live app, a replay, or two replays side by side."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence

from edge_router.agent.session import Session
from edge_router.agent.trace import Trace
from edge_router.errors import UserError
from edge_router.ladders.costs import CostProfile
from edge_router.screen.printable import say
from edge_router.server.events import ServerListener
from edge_router.tasks.games import GameRef
from tui.apps.compare import CompareApp
from tui.apps.live import LiveApp
from tui.apps.replay import ReplayApp
from tui.apps.server import ServerApp, Watched

DEFAULT_PACE = 1.5


def play(
    session: Session,
    first: GameRef,
    *,
    pace: float = DEFAULT_PACE,
    profile: CostProfile | None = None,
) -> int:
    """Open the live app; returns the exit code. `profile` is how fast this machine was before.

    An error that is a bug of ours is raised again when the terminal is itself again.
    """
    _leave_the_model_its_time()
    app = LiveApp(session, first, pace=pace, profile=profile)
    code = _run(app)
    if app.failure is not None and not isinstance(app.failure, UserError):
        raise app.failure
    return code


def watch(serve: Callable[[ServerListener], Watched]) -> int:
    """Open the app on a server, which `serve` makes for a listener; returns the exit code.

    The server answers from the first frame on until the app ends. An error that ended it is
    raised again when the terminal is itself again.
    """
    _leave_the_model_its_time()
    app = ServerApp(serve)
    code = _run(app)
    if app.server.error is not None:
        raise app.server.error
    return code


def _run(app: LiveApp | ServerApp) -> int:
    """Show the app until it is left, print what came of it; its exit code."""
    try:
        code = app.run()
    finally:
        app.finish_work()  # the ladder must not be freed under what is being computed
    app.hear_the_rest()
    for sentence in app.result:
        say(sentence)
    return app.return_code or code or 0


def _leave_the_model_its_time() -> None:
    # While the screen is drawn, who writes waits for the interpreter's lock between two tokens:
    # for 5 ms unless this is set.
    sys.setswitchinterval(0.0005)
    # Looking through all modules for garbage takes 60 ms and holds that lock as well.
    gc.collect()
    gc.freeze()


def replay(
    traces: Sequence[Trace],
    names: Sequence[str],
    *,
    speed: float | None = None,
    pace: float | None = None,
    paused: bool = False,
) -> int:
    """Open the replay of one trace, or of two side by side; returns the exit code.

    With a speed and no pace steps are as short as they were.
    """
    shown = pace if pace is not None else DEFAULT_PACE if speed is None else 0.0
    app: ReplayApp
    if len(traces) > 1:
        app = CompareApp(traces, names, speed=speed or 1.0, pace=shown, paused=paused)
    else:
        app = ReplayApp(list(traces), speed=speed or 1.0, pace=shown, paused=paused)
    code = app.run()
    return app.return_code or code or 0
