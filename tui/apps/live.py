"""The live app: an episode as it is played, and keys that steer it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType

from edge_router.agent.events import EpisodeFinished, EpisodeStarted, Event, Noted, TextDecoded
from edge_router.agent.listeners.slowness import SpeedWatch
from edge_router.agent.trace import TraceWriter, trace_of
from edge_router.errors import UserError
from edge_router.ladders.costs import CostProfile
from edge_router.screen.printable import one_line
from edge_router.tasks.games import GameRef
from tui.apps.frame import Frame, Key, stamp
from tui.apps.picker import GamePicker
from tui.apps.player import Failed, Happening, Playable, Player
from tui.apps.replay import ReplayScreen
from tui.apps.sentences import FASTER, SLOWER, change_of, farewell, next_pace, why_not
from tui.draw.panels import PrecisionStrip, SoFar
from tui.state.episode import Episode, cut_after
from tui.state.screenful import Ahead, Screenful, Status

# How often it is looked whether something has happened, and the seconds between two frames at
# least. More often would take processor time from a model that decodes on the same cores: a frame
# with a line of new text costs 2 ms, one with all panels 6 to 8.
LOOKS_PER_SECOND = 8
FRAME_SECONDS = 0.24
DIAL_STEP = 0.05
PATIENCE = 0.5  # seconds that quitting waits for the step in hand before the screen is given back


class LiveApp(Frame):
    """Plays `first`, then what is picked. `failure` is the error that ended the last game."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause or go on"),
        Binding("n", "one_step", "One step"),
        Binding("l", "force(0)", "Next step by the low tier"),
        Binding("h", "force(-1)", "Next step by the high tier"),
        *(Binding(str(i), f"force({i - 1})", f"Next step by tier {i}", show=False)
          for i in range(1, 10)),
        Binding("a", "auto", "The router decides again"),
        Binding("left", "dial(-1)", "Dial: towards cost"),
        Binding("right", "dial(1)", "Dial: towards quality"),
        Binding("minus", f"pace({SLOWER})", "Slower"),
        Binding("plus,equals_sign", f"pace({FASTER})", "Faster"),
        Binding("left_square_bracket", "look(-1)", "Look a step back"),
        Binding("right_square_bracket", "look(1)", "Look a step on"),
        Binding("v", "view", "Show the ended game again"),
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
        self._happened: deque[Happening] = deque()
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
        is_news = self._happened or self._phase != self.session.phase
        if is_news and time.monotonic() >= self._drawn + FRAME_SECONDS:
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
            self.looked_at = None
        elif isinstance(event, EpisodeFinished) and event.reason != "interrupted":
            self._played += 1
            self._won += event.won
        if isinstance(event, Noted):
            self._note = event.text
        self._events.append(event)
        self._watch(event)
        self.episode.apply(event)

    def hear_the_rest(self) -> None:
        """Take in what has happened since the last frame, when there is no screen any more."""
        while self._happened:
            self._take_in(self._happened.popleft())

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

    def _may(self, action: str) -> bool:
        """Whether the action has an effect now; says why where it has none."""
        refusal = why_not(action, self.status)
        if refusal:
            self.say(refusal)
        return not refusal

    def action_pause(self) -> None:
        if self._back_to_newest() or not self._may("pause"):
            return
        self.player.paused = not self.player.paused
        if self.status is Status.LOADING:
            self.say(f"The game will begin {'paused' if self.player.paused else 'at once'}.")
        self.show()

    def action_one_step(self) -> None:
        if not self._may("one_step"):
            return
        self.looked_at = None
        self.player.one_step()
        if self.status is Status.LOADING:
            self.say("The game will take one step and pause.")
        self.show()

    def action_force(self, tier: int) -> None:
        if not self._may("force"):
            return
        count = len(self.episode.tiers)
        if not -count <= tier < count:
            tiers = "tier" if count == 1 else "tiers"
            self.say(f"There is no tier {tier + 1}: this model has {count} {tiers}.")
            return
        self.looked_at = None
        if self.session.router.forced == tier % count:
            self.say(f"The next step is {self.episode.tiers[tier]}'s already.")
        self.session.router.forced = tier % count
        self.show()

    def action_auto(self) -> None:
        if not self._may("auto"):
            return
        if self.session.router.forced is None:
            self.say("The router decides already; no step is forced.")
        self.session.router.forced = None
        self.show()

    def action_dial(self, direction: int) -> None:
        self._set_dial(self.session.dial + direction * DIAL_STEP)

    def action_look(self, direction: int) -> None:
        """Show the step before (-1) or after (1) the one on screen."""
        if self._may("look"):
            newest = len(self.episode.done_steps)
            self._look_at((newest if self.looked_at is None else self.looked_at) + direction)

    @on(PrecisionStrip.Picked)
    def _step_clicked(self, event: PrecisionStrip.Picked) -> None:
        if self._may("look"):
            self._look_at(event.step)

    def _look_at(self, step: int) -> None:
        """Stop, and show a finished step as it was; beyond the last, the newest."""
        done = len(self.episode.done_steps)
        if step >= done:
            if not self._back_to_newest():
                self.say("This is the newest step; [ goes back.")
        elif step < 0:
            self.say("This is the first step." if done else "There is no step yet.")
        else:
            if self.looked_at is None:
                self.say("Looking back: [ and ] move, space returns to the newest step.")
                self.player.paused = self.player.paused or self.status is Status.RUNNING
            self.looked_at = step
            self.show()

    def _back_to_newest(self) -> bool:
        """Leave the earlier step; False when none was looked at."""
        if self.looked_at is None:
            return False
        self.looked_at = None
        self.show()
        return True

    def action_view(self) -> None:
        """Open the game that has ended as a replay."""
        if self._may("view"):
            self.push_screen(ReplayScreen(trace_of(self._events), pace=self.player.pace))

    @on(SoFar.DialSet)
    def _dial_clicked(self, event: SoFar.DialSet) -> None:
        self._set_dial(event.value)

    def _set_dial(self, value: float) -> None:
        if not self._may("dial"):
            return
        before, self.session.dial = self.session.dial, round(min(1.0, max(0.0, value)), 2)
        if not self.session.router.heeds_dial:
            self.say("This router has no dial.")
        elif before == self.session.dial:
            self.say(f"The dial is at its end, {before:.2f}.")
        else:
            self.say(f"Dial {self.session.dial:.2f}, from cost (0) to quality (1).")
        self.show()

    def action_pace(self, direction: int) -> None:
        """One notch faster (1) or slower (-1)."""
        if not self._may("pace"):
            return
        before = self.player.pace
        self.player.pace = next_pace(before, direction)
        self.say(change_of(before, self.player.pace, direction))
        self.show()

    def action_pick(self) -> None:
        if not self._may("pick"):
            return

        def picked(game: GameRef | None) -> None:
            if game is not None:
                self._play(game)

        self.push_screen(GamePicker(self.session.games, self.game), picked)

    def action_next_game(self) -> None:
        """The game after this one, when this one is over."""
        if self._may("next_game"):
            games = self.session.games
            at = games.index(self.game) if self.game in games else -1
            self._play(games[(at + 1) % len(games)])

    def action_restart(self) -> None:
        if self._may("restart"):
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
