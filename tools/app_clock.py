"""The process that `tools.app_speed` watches: the app, whose screen is held still now and then.

It is what `edge-router play --pace 0` opens, with one listener more. From the decision to
the end of a step that listener lets the screen's thread run or holds it still, and takes
the time. Steps come in fours, such as on, off, off, on, so that what changes slowly (the
machine's speed, the growing text) is in both kinds alike. A thread that is held draws
nothing, looks at nothing and wants no lock, as if there were no app.

Each step goes to whoever started this process in a line of JSON (`Step`) on the
descriptor that it names, the end of a game by the line "end", and an error by its own words.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, cycle
from pathlib import Path

from edge_router.agent.episode import Options
from edge_router.agent.events import EpisodeFinished, Event, Listener, Routed, StepFinished
from edge_router.agent.session import Session
from edge_router.engine.ladder import Ladder, default_context
from edge_router.errors import UserError
from edge_router.ladders.resolve import resolve
from edge_router.parts import load_part
from edge_router.router.registry import make_router
from edge_router.tasks.alfworld.game_files import GENERATED, split_games
from edge_router.tasks.games import GameRef, pick

END = "end"
ORDERS = (  # whether the app runs, step by step
    (True, False, False, True),
    (False, True, True, False),
    # Compares nothing with nothing: how much the method sees where nothing is.
    (False, False, False, False),
)


@dataclass(frozen=True)
class Plan:
    """What is played, and by how many threads (0: their number follows the machine)."""

    tiers: Sequence[str]  # NAME=PATH, low to high
    prompt: str
    router: str
    games: int
    max_steps: int
    threads: int = 0


@dataclass(frozen=True)
class Step:
    """What a step took from its decision to its end, and whether the app ran meanwhile."""

    app_runs: bool
    tokens: int
    seconds: float  # without the time that the game's engine took for its reply
    app_seconds: float | None  # processor time of all threads but the model's, if it is known


class Held:
    """Holds the main thread still: in a signal's handler, which runs there and nowhere else."""

    def __init__(self) -> None:
        self._may_run = threading.Event()
        self._may_run.set()
        signal.signal(signal.SIGUSR1, lambda _number, _frame: self._may_run.wait())

    def set(self, held: bool) -> None:
        """Hold it, or let it run; from another thread."""
        if not held:
            self._may_run.set()
        elif self._may_run.is_set():
            self._may_run.clear()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


class Clock:
    """The first listener of the episodes; `tell` takes finished steps."""

    def __init__(self, hold: Callable[[bool], None], tell: Callable[[Step], None]) -> None:
        self._hold, self._tell = hold, tell
        self._plan = cycle(chain.from_iterable(ORDERS))
        self._app_runs = True
        self._began = 0.0
        self._taken: float | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Routed):
            self._app_runs = next(self._plan)
            self._hold(not self._app_runs)
            self._began, self._taken = time.perf_counter(), other_threads()
        elif isinstance(event, StepFinished):
            seconds = time.perf_counter() - self._began - event.latency.env_ms / 1000
            now, before = other_threads(), self._taken
            taken = None if now is None or before is None else now - before
            self._tell(Step(self._app_runs, event.latency.decode_tokens, seconds, taken))
            self._hold(False)


def other_threads() -> float | None:
    """Seconds of processor time of all Python's threads but this one; only Linux tells."""
    own = threading.get_native_id()
    try:
        return sum(_taken(t.native_id) for t in threading.enumerate() if t.native_id != own) / 1e9
    except OSError:
        return None


def _taken(thread: int | None) -> int:
    return int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[0])


class WatchedSession(Session):
    """A session with the clock before all other listeners."""

    clock: Clock
    tell: Callable[[str], None]

    def play(self, game: GameRef, listeners: Sequence[Listener]) -> EpisodeFinished:
        try:
            finished = super().play(game, [self.clock, *listeners])
        except UserError as error:
            self.tell(str(error))
            raise
        if finished.reason != "interrupted":
            self.tell(END)
        return finished


def play(plan: Plan, report: int) -> int:
    """Open the app on the plan's game; returns its exit code. Raises `UserError`."""
    tiers, games = resolve(None, plan.tiers).tiers, split_games(GENERATED)
    n_ctx, n_threads = default_context(tiers), plan.threads or None
    load = partial(Ladder.load, tiers, n_ctx=n_ctx, n_threads=n_threads)
    options = Options(max_steps=plan.max_steps, prompt=plan.prompt, fingerprints=False)

    def tell(line: str) -> None:
        os.write(report, (line + "\n").encode())

    session = WatchedSession(games, load, make_router(plan.router), options)
    session.clock = Clock(Held().set, lambda step: tell(json.dumps(asdict(step))))
    session.tell = tell
    with session:
        return int(load_part("tui.apps.commands", extra="tui").play(session, pick(games), pace=0.0))


def main(arguments: Sequence[str]) -> int:
    """`app_clock DESCRIPTOR PLAN`, where the plan is JSON."""
    try:
        return play(Plan(**json.loads(arguments[1])), int(arguments[0]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
