"""Plays games in a thread of its own, and lets the screen's thread steer it.

The player is the last listener of an episode: it blocks between steps while
somebody paused, and until a step has been on screen as long as the pace asks
for. It never blocks while a step is read, decided or decoded, so no measured
time contains waiting. Quitting is an interruption as Ctrl-C is one: raised
between two events, it ends the episode cleanly, with a whole trace.

    player = Player(session, heard.append, pace=1.5)
    player.start(game);  player.paused = True;  player.one_step();  player.close()
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_router.agent.events import (
    EpisodeFinished,
    EpisodeStarted,
    Event,
    Listener,
    Routed,
    StepFinished,
    StepStarted,
)
from edge_router.errors import UserError
from edge_router.router.steered import SteeredRouter
from edge_router.tasks.games import GameRef

DECISION_SHARE = 0.35  # of the pace: how long a decision is shown before the step is written


class Playable(Protocol):
    """See `edge_router.agent.session.Session`."""

    games: tuple[GameRef, ...]
    router: SteeredRouter
    dial: float
    phase: str
    traces: list[Path]

    def play(self, game: GameRef, listeners: Sequence[Listener]) -> EpisodeFinished:
        """Play the game; `listeners` hear its events in the thread that calls."""
        ...


@dataclass(frozen=True)
class Failed:
    """A game could not be played on; `error` is what was raised."""

    sentence: str
    error: Exception


Happening = Event | Failed


class Player:
    """One game at a time, in its own thread, from `start` on. All methods may be called from
    any thread; `tell` is called from the player's.
    """

    def __init__(
        self, session: Playable, tell: Callable[[Happening], None], *, pace: float = 0.0
    ) -> None:
        self._session = session
        self._tell = tell
        self._turn = threading.Condition()
        self._next: GameRef | None = None
        self._closing = self._stopped = self._paused = False
        self._granted = 0  # steps that may be taken although paused
        self._pace = pace
        self._max_steps = 0
        self._step_began = 0.0
        # A daemon, so that a crash of the screen's thread does not wait for a game to end.
        self._thread = threading.Thread(target=self._run, name="player", daemon=True)
        self._thread.start()

    def start(self, game: GameRef) -> None:
        """Play `game`, instead of the one that is being played if there is one."""
        with self._turn:
            self._next, self._stopped = game, True
            self._granted = 0
            self._turn.notify_all()

    def close(self) -> None:
        """End the game that is being played, if any, and the thread; see `join`."""
        with self._turn:
            self._closing = self._stopped = True
            self._turn.notify_all()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end after `close`; False when the time was too short."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def paused(self) -> bool:
        """Whether no further step is taken unless asked for."""
        return self._paused

    @paused.setter
    def paused(self, wanted: bool) -> None:
        with self._turn:
            self._paused, self._granted = wanted, 0
            self._turn.notify_all()

    def one_step(self) -> None:
        """Take one more step, at once, and pause."""
        with self._turn:
            self._granted = self._granted + 1 if self._paused else 1
            self._paused = True
            self._turn.notify_all()

    @property
    def pace(self) -> float:
        """Seconds that a step is on screen at least; 0 for full speed."""
        return self._pace

    @pace.setter
    def pace(self, seconds: float) -> None:
        with self._turn:
            self._pace = seconds
            self._turn.notify_all()

    # -- in the player's thread ------------------------------------------------

    def _run(self) -> None:
        while (game := self._take()) is not None:
            try:
                self._session.play(game, [self._tell, self._hold])
            except UserError as error:
                self._tell(Failed(str(error), error))
            except Exception as error:  # shown on the screen, and raised again on leaving
                self._tell(Failed(f"{type(error).__name__}: {error}", error))

    def _take(self) -> GameRef | None:
        """The next game, waited for; None to end."""
        with self._turn:
            self._turn.wait_for(lambda: self._closing or self._next is not None)
            if self._closing:
                return None
            game, self._next, self._stopped = self._next, None, False
            return game

    def _hold(self, event: Event) -> None:
        """The listener that waits, and interrupts."""
        if isinstance(event, EpisodeStarted):
            self._max_steps = event.max_steps
            self._wait(time.monotonic() + self._pace, between_steps=True)
            return  # interrupted at the next event: this one is outside the loop that ends well
        if isinstance(event, EpisodeFinished):
            return
        if isinstance(event, StepStarted):
            self._step_began = time.monotonic()
        elif isinstance(event, Routed):
            self._wait(self._step_began + self._pace * DECISION_SHARE)
        elif isinstance(event, StepFinished) and not self._is_last(event):
            self._wait(self._step_began + self._pace, between_steps=True)
        if self._stopped:
            raise KeyboardInterrupt

    def _is_last(self, event: StepFinished) -> bool:
        return event.done or event.step + 1 >= self._max_steps

    def _wait(self, until: float, *, between_steps: bool = False) -> None:
        """Wait up to the time `until`; between steps also as long as the player is paused."""
        began = time.monotonic()
        asked = self._pace
        with self._turn:
            while not self._stopped:
                if between_steps and self._granted:
                    self._granted -= 1
                    return
                # A pace that was changed while waiting counts from when the waiting began.
                left = min(until, began + self._pace) if self._pace != asked else until
                left -= time.monotonic()
                if between_steps and self._paused:
                    self._turn.wait()
                elif left <= 0 or self._paused:  # whoever takes single steps need not wait in them
                    return
                else:
                    self._turn.wait(left)
