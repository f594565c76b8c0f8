"""Several games in a row on one loaded ladder: what `edge-router play` plays.

The ladder is loaded when the first game is played and kept for the next ones.
Each game gets a trace of its own: the first the name that was given, later ones
that name with a number.

    with Session(games, load, router, options) as session:
        session.play(games[0], [PlainPrinter()])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from edge_router.agent.episode import Options, play_episode
from edge_router.agent.events import EpisodeFinished, EpisodeStarted, Event, Listener
from edge_router.agent.trace import TraceWriter
from edge_router.engine.ladder import Ladder
from edge_router.router.base import Router
from edge_router.router.steered import SteeredRouter
from edge_router.tasks.games import GameRef
from edge_router.tasks.protocol import Task
from edge_router.tasks.registry import find_task


class Session:
    """Games, a router that may be steered, and a ladder that is loaded once.

    `dial` may be set at any time; it counts from the next step on. All of
    `play` must happen in one thread.
    """

    def __init__(
        self,
        games: Sequence[GameRef],
        load: Callable[[], Ladder],
        router: Router,
        options: Options,
        trace: Path | None = None,
        say: Callable[[str], None] = lambda phase: None,
    ) -> None:
        """`say` gets what is waited for before the first game starts, and "" when it has.

        Raises `UserError` when the trace cannot be written.
        """
        self.games = tuple(games)
        self.router = SteeredRouter(router)
        self.dial = options.dial if isinstance(options.dial, float) else options.dial()
        self.options = replace(options, dial=lambda: self.dial)
        self.phase = ""  # what is waited for
        self._say = say
        self._load = load
        self._trace = trace
        self.traces: list[Path] = []  # of the games played, in order
        self._ladder: Ladder | None = None
        if trace is not None:
            TraceWriter(trace).close()

    def play(self, game: GameRef, listeners: Sequence[Listener]) -> EpisodeFinished:
        """Play one game to its end. Raises what `play_episode` and `Ladder.load` raise."""
        with ExitStack() as stack:
            task = find_task(game.task)
            opened = stack.enter_context(closing(task.open(game)))
            heard = list(listeners)
            if self._trace is not None:  # first: what is on screen is then in the trace
                heard.insert(0, stack.enter_context(TraceWriter(self._next_trace(self._trace))))
            try:
                ladder = self._ready(task)
                return play_episode(
                    opened, ladder, self.router, self.options, [self._started, *heard]
                )
            finally:
                self._wait_for("")

    def _ready(self, task: Task) -> Ladder:
        """The ladder, loaded while the game engine is being loaded beside it."""
        if self._ladder is None:
            task.load_ahead()
            self._wait_for("Loading the model")
            self._ladder = self._load()
            self._wait_for("Loading the game engine")
        return self._ladder

    def _started(self, event: Event) -> None:
        if isinstance(event, EpisodeStarted):
            self._wait_for("")

    def _wait_for(self, phase: str) -> None:
        if phase != self.phase:
            self.phase = phase
            self._say(phase)

    def _next_trace(self, path: Path) -> Path:
        number = len(self.traces) + 1
        self.traces.append(path if number == 1 else path.with_stem(f"{path.stem}-{number}"))
        return self.traces[-1]

    def close(self) -> None:
        """Free the ladder."""
        if self._ladder is not None:
            self._ladder.close()
            self._ladder = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
