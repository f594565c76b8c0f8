"""The same app on a trace, or a screen of it on a game just played: play, stop, go to any step."""

from __future__ import annotations

import time
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from edge_router.agent.trace import Trace
from tui.apps.frame import Frame, Key, draw_in, panels
from tui.apps.sentences import FASTER, SLOWER, change_of, next_pace
from tui.draw.panels import PrecisionStrip
from tui.state.episode import Timeline
from tui.state.screenful import Ahead, Screenful, Status

FRAMES_PER_SECOND = 20


class Replaying(DOMNode):
    """What plays traces, be it an app or a screen of one: each step at the run's own pace, but on
    screen for `pace` seconds at least.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause or go on"),
        Binding("n,right", "move(1)", "One step on"),
        Binding("left", "move(-1)", "One step back"),
        Binding("home,r", "go_to(-1)", "To the start"),
        Binding("end", "go_to(1000000)", "To the end"),
        Binding("minus", f"pace({SLOWER})", "Slower"),
        Binding("plus,equals_sign", f"pace({FASTER})", "Faster"),
    ]
    KEYS: ClassVar[list[Key]] = [
        ("space", "pause", "app.pause"),
        ("←→", "step back/on", "app.move(1)"),
        ("home", "start", "app.go_to(-1)"),
        ("end", "end", "app.go_to(1000000)"),
        ("-+", "slower/faster", f"app.pace({FASTER})"),
    ]
    HELP = "The arrows, or a click on the strip, move to any step of the recorded run."

    def begin(self, traces: list[Trace], *, speed: float, pace: float, paused: bool) -> None:
        """What is played, and how; before the first drawing."""
        self.timelines = [Timeline(trace, speed=speed, pace=pace) for trace in traces]
        self.pace = pace
        self.playing = not paused
        self.position = 0.0  # seconds into the replay
        self._last_tick = 0.0

    def on_mount(self) -> None:  # Textual calls that of `Frame` by itself
        self._last_tick = time.monotonic()
        self.set_interval(1 / FRAMES_PER_SECOND, self._tick)
        self.seek(0.0)
        for note in filter(None, (timeline.trace.note for timeline in self.timelines)):
            self.frame.say(note[0].upper() + note[1:] + ".", severity="warning")

    @property
    def frame(self) -> Frame:
        """The app."""
        app = self.app
        assert isinstance(app, Frame)
        return app

    def show(self) -> None:
        """Bring the screen up to date."""
        raise NotImplementedError

    @property
    def length(self) -> float:
        """Seconds that the replay takes."""
        return self._leader.length

    @property
    def _leader(self) -> Timeline:
        """The trace with the most steps; its time is the replay's."""
        return max(self.timelines, key=lambda timeline: timeline.steps)

    def _tick(self) -> None:
        now = time.monotonic()
        passed, self._last_tick = now - self._last_tick, now
        if self.playing and self.position < self.length:
            self.seek(self.position + passed)

    def seek(self, position: float) -> None:
        """Show the run as it was `position` seconds after its start."""
        self.position = min(max(0.0, position), self.length)
        leader = self._leader
        share = leader.share_at(self.position)
        changed = leader.seek(self.position)
        for timeline in self.timelines:
            if timeline is not leader:  # the others show the same step, however long theirs took
                changed |= timeline.seek(timeline.position_of(share))
        if changed:
            self.show()

    def screenful(self) -> Screenful:
        return self.screenful_of(self.timelines[0])

    def screenful_of(self, timeline: Timeline) -> Screenful:
        """What is to be shown of one of the traces."""
        return Screenful(
            episode=timeline.episode,
            look=self.frame.look,
            status=self._status(),
            ahead=Ahead(timeline.tiers),
            pace=self.pace,
        )

    def _status(self) -> Status:
        if self.position >= self.length:
            return Status.ENDED
        return Status.RUNNING if self.playing else Status.PAUSED

    # -- actions ----------------------------------------------------------------

    def action_pause(self) -> None:
        """Stop or go on; at the end, from the start again."""
        if not self._leader.steps:
            self.frame.say("This trace holds no step.")
            return
        if self.position >= self.length:
            self.playing = True
            self.seek(0.0)
        else:
            self.playing = not self.playing
        self.show()

    def action_move(self, steps: int) -> None:
        """Stop, and show the run as it was so many steps later."""
        self.action_go_to(self._leader.step_at(self.position) + steps)

    def action_go_to(self, step: int) -> None:
        """Stop after step `step` (0-based); -1 is the start."""
        before = self._status(), self.position
        self.playing = False
        self.seek(self._leader.end_of(step))
        self.show()
        if before == (self._status(), self.position):
            self.frame.say("This is the end." if self.position else "This is the start.")

    @on(PrecisionStrip.Picked)
    def _picked(self, event: PrecisionStrip.Picked) -> None:
        self.action_go_to(event.step)

    def action_pace(self, direction: int) -> None:
        """One notch faster (1) or slower (-1)."""
        before, self.pace = self.pace, next_pace(self.pace, direction)
        share = self._leader.share_at(self.position)
        for timeline in self.timelines:
            timeline.set_pace(self.pace)
        self.seek(self._leader.position_of(share))
        self.show()
        self.frame.say(change_of(before, self.pace, direction))


class ReplayApp(Replaying, Frame):
    """The same app on a trace."""

    PLACE = "in a replay"

    def __init__(
        self, traces: list[Trace], *, speed: float = 1.0, pace: float = 1.5, paused: bool = False
    ) -> None:
        super().__init__()
        self.begin(traces, speed=speed, pace=pace, paused=paused)

    def show(self, *, text_only: bool = False) -> None:
        Frame.show(self, text_only=text_only)


class ReplayScreen(Replaying, Screen[None]):
    """A game that was just played, to look at again; the app that played it lies below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v,escape", "close", "Back to the game"),
    ]

    def __init__(self, trace: Trace, *, pace: float) -> None:
        super().__init__()
        self.begin([trace], speed=1.0, pace=pace, paused=True)

    def compose(self) -> ComposeResult:
        own = [(key, does, action.replace("app.", "screen.")) for key, does, action in self.KEYS]
        back = ("v", "back", "screen.close")
        yield from panels([back, *own, *self.frame.COMMON_KEYS])

    def on_mount(self) -> None:
        self.frame.theme_changed_signal.subscribe(self, lambda _theme: self.show())

    def show(self) -> None:
        draw_in(self, self.screenful())

    def action_close(self) -> None:
        self.dismiss()
