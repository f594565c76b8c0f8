"""The live app: an episode as it is played, and keys that steer it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType

from edge_router.agent.events import EpisodeFinished, EpisodeStarted, Event, TextDecoded
from edge_router.agent.trace import TraceWriter
from edge_router.errors import UserError
from edge_router.tasks.game_files import GameRef
from tui.episode import Episode
from tui.frame import Frame, Key, stamp
from tui.panels import SoFar
from tui.picker import GamePicker
from tui.playable import Playable
from tui.player import Failed, Happening, Player
from tui.screenful import Screenful, Status

# How often it is looked whether something has happened, and the seconds between two frames at
# least. More often would take processor time from a model that decodes on the same cores: a frame
# with a line of new text costs 2 ms, one with all panels 6 to 8.
LOOKS_PER_SECOND = 8
FRAME_SECONDS = 0.24
DIAL_STEP = 0.05
PACES = (0.0, 0.5, 1.0, 1.5, 3.0, 6.0)
PATIENCE = 0.5  # seconds that quitting waits for the step in hand before the screen is given back


class LiveApp(Frame):
    """Plays `first`, then what is picked. `failure` is the error that ended the last game."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause or go on"),
        Binding("n", "one_step", "One step"),
        Binding("l", "force(0)", "Next step by the smallest copy"),
        Binding("h", "force(-1)", "Next step by the most precise copy"),
        *(Binding(str(i), f"force({i - 1})", f"Next step by copy {i}", show=False)
          for i in range(1, 10)),
        Binding("a", "auto", "The router decides again"),
        Binding("left", "dial(-1)", "Dial: cheaper"),
        Binding("right", "dial(1)", "Dial: better"),
        Binding("minus", "pace(1)", "Slower"),
        Binding("plus,equals_sign", "pace(-1)", "Faster"),
        Binding("g", "pick", "Pick a game"),
        Binding("enter", "next_game", "Next game"),
        Binding("r", "restart", "Play the game again"),
        Binding("t", "save_trace", "Save the trace"),
    ]  # fmt: skip
    KEYS: ClassVar[list[Key]] = [
        ("space", "pause", "app.pause"),
        ("n", "step", "app.one_step"),
        ("l", "low", "app.force(0)"),
        ("h", "high", "app.force(-1)"),
        ("a", "auto", "app.auto"),
        ("←→", "dial", "app.dial(1)"),
        ("-+", "pace", "app.pace(-1)"),
        ("g", "game", "app.pick"),
        ("⏎", "next", "app.next_game"),
        ("r", "again", "app.restart"),
        ("t", "trace", "app.save_trace"),
    ]
    HELP = (
        "l and h have the smallest or the most precise copy write the next step, the digits 1 to 9"
        " any copy, a leaves it to the router again. The arrows turn the dial towards cost or"
        " quality. - and + change how long a step is shown; the model itself always runs at full"
        " speed."
    )

    def __init__(self, session: Playable, first: GameRef, *, pace: float) -> None:
        super().__init__()
        self.session = session
        self.game = first
        self.failure: Exception | None = None
        self._happened: deque[Happening] = deque()
        self._events: list[Event] = []  # of the episode on screen, for saving it
        self.episode = Episode()
        self._starting = True
        self._phase = ""  # of the session, as it is on screen
        self._leaving = False
        self._won = self._played = 0
        self._drawn = 0.0  # when the last frame was
        self._looking: asyncio.TimerHandle | None = None
        self.player = Player(session, self._happened.append, pace=pace)

    def on_unmount(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self.player.close()

    def on_mount(self) -> None:  # Textual calls that of `Frame` by itself
        self._look_again()
        self.player.start(self.game)
        self.show()

    def _look_again(self) -> None:
        """Textual's own timer takes 0.3 ms a tick, this 0.05."""
        self._looking = asyncio.get_running_loop().call_later(
            1 / LOOKS_PER_SECOND, self._look_again
        )
        told = self._happened or self._phase != self.session.phase
        if told and time.monotonic() >= self._drawn + FRAME_SECONDS:
            self.call_next(self.catch_up)

    def catch_up(self) -> None:
        """Take in what has happened since the last frame, and draw it at once."""
        self._drawn, self._phase = time.monotonic(), self.session.phase
        count = len(self._happened)  # the player may add to them meanwhile
        text_only = all(isinstance(self._happened[i], TextDecoded) for i in range(count))
        for _ in range(count):
            self._take_in(self._happened.popleft())
        self.show(text_only=text_only)

    def _take_in(self, event: Happening) -> None:
        if isinstance(event, Failed):
            self.failure, self._starting = event.error, False
            return
        if isinstance(event, EpisodeStarted):
            self._events, self._starting, self.failure = [], False, None
        elif isinstance(event, EpisodeFinished) and event.reason != "interrupted":
            self._played += 1
            self._won += event.won
        self._events.append(event)
        self.episode.apply(event)

    def screenful(self) -> Screenful:
        return Screenful(
            episode=self.episode,
            look=self.look,
            status=self.status,
            phase=self.session.phase,
            problem=_sentence(self.failure),
            forced=self._forced(),
            dial=self.session.dial,
            heeds_dial=self.session.router.heeds_dial,
            pace=self.player.pace,
            won=self._won,
            played=self._played,
        )

    @property
    def status(self) -> Status:
        if self._leaving:
            return Status.STOPPING
        if self._starting:
            return Status.LOADING
        if self.failure is not None:
            return Status.FAILED
        if self.episode.finished is not None:
            return Status.ENDED
        return Status.PAUSED if self.player.paused else Status.RUNNING

    def _forced(self) -> int | None:
        return self.session.router.forced

    # -- actions ----------------------------------------------------------------

    def action_pause(self) -> None:
        self.player.paused = not self.player.paused
        self.show()

    def action_one_step(self) -> None:
        self.player.one_step()
        self.show()

    def action_force(self, tier: int) -> None:
        count = len(self.episode.tiers)
        if count and -count <= tier < count:
            self.session.router.forced = tier % count
            self.show()

    def action_auto(self) -> None:
        self.session.router.forced = None
        self.show()

    def action_dial(self, direction: int) -> None:
        self._set_dial(self.session.dial + direction * DIAL_STEP)

    @on(SoFar.DialSet)
    def _dial_clicked(self, event: SoFar.DialSet) -> None:
        self._set_dial(event.value)

    def _set_dial(self, value: float) -> None:
        self.session.dial = round(min(1.0, max(0.0, value)), 2)
        self.show()

    def action_pace(self, direction: int) -> None:
        """One notch slower (1) or faster (-1)."""
        now = min(range(len(PACES)), key=lambda i: abs(PACES[i] - self.player.pace))
        self.player.pace = PACES[min(len(PACES) - 1, max(0, now + direction))]
        self.show()

    def action_pick(self) -> None:
        def picked(game: GameRef | None) -> None:
            if game is not None:
                self._play(game)

        self.push_screen(GamePicker(self.session.games, self.game), picked)

    def action_next_game(self) -> None:
        """The game after this one; while a game is being played nothing."""
        if self.status in (Status.ENDED, Status.FAILED):
            games = self.session.games
            at = games.index(self.game) if self.game in games else -1
            self._play(games[(at + 1) % len(games)])

    def action_restart(self) -> None:
        self._play(self.game)

    def _play(self, game: GameRef) -> None:
        self.game = game
        self._starting = True
        self.player.start(game)
        self.show()

    def action_save_trace(self) -> None:
        path = Path(f"edge-router-{stamp()}.jsonl")
        if not self._events:
            self.notify("There is no step to save yet.", severity="warning")
            return
        try:
            with TraceWriter(path) as writer:
                for event in self._events:
                    writer(event)
        except UserError as error:
            self.notify(str(error), severity="error")
        else:
            self.notify(f"Trace saved: {path}")

    def finish_work(self) -> None:
        self.player.close()
        self.player.join()

    def leave(self, code: int) -> None:
        """End the step in hand, then the app; a second time, the app at once."""
        if self._leaving:
            self.exit(code)
            return
        self._leaving = True
        self.player.close()
        self.show()
        self.run_worker(self._leave_soon(code), exclusive=True)

    async def _leave_soon(self, code: int) -> None:
        for _ in range(10):
            if await asyncio.to_thread(self.player.join, PATIENCE / 10):
                break
        self.catch_up()
        self.exit(code)


def _sentence(error: Exception | None) -> str:
    if error is None:
        return ""
    if not isinstance(error, UserError):
        return f"{type(error).__name__}: {error}"
    told = str(error)
    return told[:1].upper() + told[1:] if told.split(" ")[0].isalpha() else told
