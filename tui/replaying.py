"""The same app on a trace: play it, stop it, go back and forth in it."""

from __future__ import annotations

import time
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType

from edge_router.agent.trace import Trace
from tui.frame import Frame, Key
from tui.panels import PrecisionStrip
from tui.screenful import Ahead, Screenful, Status
from tui.timeline import Timeline

FRAMES_PER_SECOND = 20
PACES = (0.1, 0.25, 0.5, 1.0, 1.5, 3.0, 6.0)


class ReplayApp(Frame):
    """Plays `trace`: each step at the run's own pace, but on screen for `pace` seconds at least."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause or go on"),
        Binding("n,right", "move(1)", "One step on"),
        Binding("left", "move(-1)", "One step back"),
        Binding("home,r", "go_to(-1)", "To the start"),
        Binding("end", "go_to(1000000)", "To the end"),
        Binding("minus", "pace(1)", "Slower"),
        Binding("plus,equals_sign", "pace(-1)", "Faster"),
    ]
    KEYS: ClassVar[list[Key]] = [
        ("space", "pause", "app.pause"),
        ("←→", "step back/on", "app.move(1)"),
        ("home", "start", "app.go_to(-1)"),
        ("end", "end", "app.go_to(1000000)"),
        ("-+", "pace", "app.pace(-1)"),
    ]
    HELP = "The arrows, or a click on the strip, move to any step of the recorded run."

    def __init__(
        self, traces: list[Trace], *, speed: float = 1.0, pace: float = 1.5, paused: bool = False
    ) -> None:
        super().__init__()
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
            self.notify(note[0].upper() + note[1:] + ".", severity="warning")

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
            look=self.look,
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
        self.playing = False
        self.seek(self._leader.end_of(step))
        self.show()

    @on(PrecisionStrip.Picked)
    def _picked(self, event: PrecisionStrip.Picked) -> None:
        self.action_go_to(event.step)

    def action_pace(self, direction: int) -> None:
        """One notch slower (1) or faster (-1)."""
        now = min(range(len(PACES)), key=lambda i: abs(PACES[i] - self.pace))
        self.pace = PACES[min(len(PACES) - 1, max(0, now + direction))]
        share = self._leader.share_at(self.position)
        for timeline in self.timelines:
            timeline.set_pace(self.pace)
        self.seek(self._leader.position_of(share))
        self.show()
