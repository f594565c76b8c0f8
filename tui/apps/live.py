"""The live app: an episode as it is played, and keys that steer it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType

from edge_router.agent.events import EpisodeFinished, EpisodeStarted, Event, Noted, TextDecoded
from edge_router.agent.listeners.slowness import SpeedWatch
from edge_router.agent.trace import TraceWriter, trace_of
from edge_router.errors import UserError
from edge_router.ladders.costs import CostProfile
from edge_router.screen.printable import one_line
from edge_router.tasks.games import GameRef
from tui.apps.frame import Key, stamp
from tui.apps.listening import ListeningApp
from tui.apps.picker import GamePicker
from tui.apps.player import Failed, Happening, Playable, Player
from tui.apps.replay import ReplayScreen
from tui.apps.sentences import FASTER, SLOWER, change_of, farewell, next_pace, why_not
from tui.state.episode import Episode, cut_after
from tui.state.screenful import Ahead, Screenful, Status

PATIENCE = 0.5  # seconds that quitting waits for the step in hand before the screen is given back


class LiveApp(ListeningApp):
    """Plays `first`, then what is picked. `failure` is the error that ended the last game."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause or go on"),
        Binding("n", "one_step", "One step"),
        Binding("minus", f"pace({SLOWER})", "Slower"),
        Binding("plus,equals_sign", f"pace({FASTER})", "Faster"),
        Binding("v", "view", "Show the ended game again"),
        Binding("g", "pick", "Pick a game"),
        Binding("enter", "next_game", "Next game"),
        Binding("r", "restart", "Play the game again"),
        Binding("t", "save_trace", "Save the trace"),
    ]
    KEYS: ClassVar[list[Key]] = [
        ("space", "pause", "app.pause"),
        ("n", "step", "app.one_step"),
        ("l", "low", "app.force(0)"),
        ("h", "high", "app.force(-1)"),
        ("a", "auto", "app.auto"),
        ("←→", "dial", "app.dial(1)"),
        ("-+", "pace", f"app.pace({FASTER})"),
        ("g", "game", "app.pick"),
        ("⏎", "next", "app.next_game"),
        ("r", "again", "app.restart"),
        ("[]", "back", "app.look(-1)"),
        ("v", "view", "app.view"),
        ("t", "trace", "app.save_trace"),
    ]
    HELP = (
        "l and h have the low or the high tier write the next step, the digits 1 to 9"
        " any tier, a leaves it to the router again. The arrows turn the dial towards cost or"
        " quality. + is faster and - slower: steps stay shorter or longer on the screen; the model"
        " itself always runs at full speed. [ and ], or a click on the strip, stop and show an"
        " earlier step as it was; space goes back to the newest. When a game has ended, v shows it"
        " again from the start."
    )

    def __init__(
        self,
        session: Playable,
        first: GameRef,
        *,
        pace: float,
        profile: CostProfile | None = None,
    ) -> None:
        super().__init__()
        self.session = session
        self.game = first
        self.failure: Exception | None = None
        self._events: list[Event] = []  # of the episode on screen, for saving it
        self.episode = Episode()
        self.looked_at: int | None = None  # index of the earlier step on screen
        self.saved: list[Path] = []  # traces saved by key
        self._watch = SpeedWatch(profile)
        self._note = ""  # what the run itself wants to be known
        self._starting = True
        self._phase = ""  # of the session, as it is on screen
        self._leaving = False
        self._won = self._played = 0
        self.player = Player(session, self.happened.append, pace=pace)

    def on_unmount(self) -> None:
        self.player.close()

    def on_mount(self) -> None:  # Textual calls those of the classes above by itself
        self.player.start(self.game)
        self.show()

    @property
    def steered(self) -> Playable:
        return self.session

    @property
    def now(self) -> Episode:
        return self.episode

    def has_news(self) -> bool:
        return bool(self.happened) or self._phase != self.session.phase

    def is_text(self, event: Happening) -> bool:
        return isinstance(event, TextDecoded)

    def catch_up(self) -> None:
        self._phase = self.session.phase
        super().catch_up()

    def take_in(self, event: Happening) -> None:
        if isinstance(event, Failed):
            self.failure, self._starting = event.error, False
            return
        if isinstance(event, EpisodeStarted):
            self._events, self._starting, self.failure = [], False, None
            self.looked_at = None
        elif isinstance(event, EpisodeFinished) and event.reason != "interrupted":
            self._played += 1
            self._won += event.won
        if isinstance(event, Noted):
            self._note = event.text
        self._events.append(event)
        self._watch(event)
        self.episode.apply(event)

    @property
    def result(self) -> list[str]:
        """Lines for the terminal when the app is gone: how it went, and where the traces are."""
        return farewell(self.episode, self._won, self._played, [*self.session.traces, *self.saved])

    def screenful(self) -> Screenful:
        back = self.looked_at
        return Screenful(
            episode=self.episode if back is None else cut_after(self.episode, back),
            look=self.look,
            status=self.status if back is None else Status.BACK,
            ahead=None if back is None else Ahead(self.episode.tiers_of_steps),
            phase=self.session.phase,
            problem=_sentence(self.failure),
            forced=self.session.router.forced if back is None else None,
            dial=self.session.dial,
            heeds_dial=self.session.router.heeds_dial,
            pace=self.player.pace,
            note=self._note or self._watch.note,
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

    # -- actions ----------------------------------------------------------------

    def may(self, action: str) -> bool:
        refusal = why_not(action, self.status)
        if refusal:
            self.say(refusal)
        return not refusal

    def action_pause(self) -> None:
        if self.back_to_newest() or not self.may("pause"):
            return
        self.player.paused = not self.player.paused
        if self.status is Status.LOADING:
            self.say(f"The game will begin {'paused' if self.player.paused else 'at once'}.")
        self.show()

    def action_one_step(self) -> None:
        if not self.may("one_step"):
            return
        self.looked_at = None
        self.player.one_step()
        if self.status is Status.LOADING:
            self.say("The game will take one step and pause.")
        self.show()

    def action_look(self, direction: int) -> None:
        """Show the step before (-1) or after (1) the one on screen."""
        if self.may("look"):
            newest = len(self.episode.done_steps)
            self.look_at((newest if self.looked_at is None else self.looked_at) + direction)

    def look_at(self, step: int) -> None:
        """Stop, and show a finished step as it was; beyond the last, the newest."""
        done = len(self.episode.done_steps)
        if step >= done:
            if not self.back_to_newest():
                self.say("This is the newest step; [ goes back.")
        elif step < 0:
            self.say("This is the first step." if done else "There is no step yet.")
        else:
            if self.looked_at is None:
                self.say("Looking back: [ and ] move, space returns to the newest step.")
                self.player.paused = self.player.paused or self.status is Status.RUNNING
            self.looked_at = step
            self.show()

    def back_to_newest(self) -> bool:
        """Leave the earlier step; False when none was looked at."""
        if self.looked_at is None:
            return False
        self.looked_at = None
        self.show()
        return True

    def action_view(self) -> None:
        """Open the game that has ended as a replay."""
        if self.may("view"):
            self.push_screen(ReplayScreen(trace_of(self._events), pace=self.player.pace))

    def action_pace(self, direction: int) -> None:
        """One notch faster (1) or slower (-1)."""
        if not self.may("pace"):
            return
        before = self.player.pace
        self.player.pace = next_pace(before, direction)
        self.say(change_of(before, self.player.pace, direction))
        self.show()

    def action_pick(self) -> None:
        if not self.may("pick"):
            return

        def picked(game: GameRef | None) -> None:
            if game is not None:
                self._play(game)

        self.push_screen(GamePicker(self.session.games, self.game), picked)

    def action_next_game(self) -> None:
        """The game after this one, when this one is over."""
        if self.may("next_game"):
            games = self.session.games
            at = games.index(self.game) if self.game in games else -1
            self._play(games[(at + 1) % len(games)])

    def action_restart(self) -> None:
        if self.may("restart"):
            self._play(self.game)

    def _play(self, game: GameRef) -> None:
        while len(self.screen_stack) > 1:  # the game before, opened as a replay
            self.pop_screen()
        self.game = game
        self._starting = True
        self.player.start(game)
        self.show()

    def action_save_trace(self) -> None:
        path = Path(f"edge-router-{stamp()}.jsonl")
        if not self.episode.done_steps:
            self.say("There is no step to save yet.", severity="warning")
            return
        try:
            with TraceWriter(path) as writer:
                for event in self._events:
                    writer(event)
        except UserError as error:
            self.say(str(error), severity="error")
        else:
            self.saved.append(path)
            self.say(f"Trace saved: {path}")

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
        return one_line(f"{type(error).__name__}: {error}")
    said = one_line(str(error))
    return said[:1].upper() + said[1:] if said.split(" ")[0].isalpha() else said
