"""From events to what has happened so far in one episode, live or along a trace's line of time.

In a line of time a step takes as long as it took (divided by the speed), or as long as the pace
asks for if that is longer; within a step the proportions are those of the run.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from edge_router.agent.events import (
    EpisodeFinished,
    EpisodeStarted,
    Event,
    Noted,
    Routed,
    StepFinished,
    StepStarted,
    TextDecoded,
    TurnsDropped,
)
from edge_router.agent.trace import Trace, replay
from edge_router.screen.printable import cleaned

StepOnly = TurnsDropped | StepStarted | Routed | TextDecoded | StepFinished


@dataclass
class StepView:
    """One step as far as it has come: read, then routed, then written, then finished."""

    number: int  # 0-based
    dropped: TurnsDropped | None = None
    started: StepStarted | None = None
    routed: Routed | None = None
    text: str = ""
    finished: StepFinished | None = None

    @property
    def tier(self) -> int | None:
        """Index of the tier that writes the step, None before the decision."""
        return None if self.routed is None else self.routed.tier_index

    def apply(self, event: StepOnly) -> None:
        """Take in the next event of this step."""
        if isinstance(event, TextDecoded):
            self.text += event.text
        elif isinstance(event, Routed):
            self.routed = event
            self.text = ""
        elif isinstance(event, StepFinished):
            self.finished = event
            self.text = event.text
        elif isinstance(event, StepStarted):
            self.started = event
        else:
            self.dropped = event


@dataclass
class Episode:
    """What is known of an episode after the events given to `apply`."""

    started: EpisodeStarted | None = None
    steps: list[StepView] = field(default_factory=list)
    finished: EpisodeFinished | None = None

    def apply(self, event: Event) -> None:
        """Take in the next event, cleaned for the screen; `EpisodeStarted` begins anew."""
        event = cleaned(event)
        if isinstance(event, EpisodeStarted):
            self.started, self.steps, self.finished = event, [], None
        elif isinstance(event, EpisodeFinished):
            self.finished = event
        elif not isinstance(event, Noted):
            self._step(event.step).apply(event)

    def _step(self, number: int) -> StepView:
        while len(self.steps) <= number:
            self.steps.append(StepView(len(self.steps)))
        return self.steps[number]

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names of the tiers, low to high."""
        return tuple(t.name for t in self.started.tiers) if self.started else ()

    @property
    def tiers_of_steps(self) -> tuple[int, ...]:
        """Index of the tier of every step that has one."""
        return tuple(s.tier for s in self.steps if s.tier is not None)

    @property
    def current(self) -> StepView | None:
        """The newest step."""
        return self.steps[-1] if self.steps else None

    @property
    def done_steps(self) -> list[StepFinished]:
        """The finished steps, in order."""
        return [s.finished for s in self.steps if s.finished is not None]

    @property
    def score(self) -> int | None:
        """The score so far, where the game counts one."""
        done = self.done_steps
        return done[-1].score if done else None


def cut_after(episode: Episode, step: int) -> Episode:
    """The episode as it was when step `step` (0-based) was over."""
    return Episode(episode.started, episode.steps[: step + 1])


def first_difference(a: Episode, b: Episode) -> int | None:
    """Index of the first finished step where two runs of a game give different commands.

    A run that ends before the other parts from it at its end; None while both agree.
    """
    left, right = a.done_steps, b.done_steps
    for number, (mine, theirs) in enumerate(zip(left, right, strict=False)):
        if mine.action != theirs.action:
            return number
    return None if len(left) == len(right) else min(len(left), len(right))


# -- a trace as a line of time --------------------------------------------------------------------


class Timeline:
    """The episode at a position in time; `seek` moves it."""

    def __init__(self, trace: Trace, *, speed: float = 1.0, pace: float = 0.0) -> None:
        self.trace = trace
        self.episode = Episode()
        self.tiers = tuple(step.routed.tier_index for step in trace.steps)
        self._speed = speed
        self._events, self._original = _recorded(trace)
        self._step_ends = [i for i, e in enumerate(self._events) if isinstance(e, StepFinished)]
        self._times: list[float] = []
        self._applied = 0
        self.set_pace(pace)

    def set_pace(self, pace: float) -> None:
        """Set how long a step is shown at least; the position must be sought again."""
        times, at, begin, first = [0.0], 0.0, 0.0, 1
        for last in self._step_ends:
            took = self._original[last] - begin
            lasts = max(took / self._speed, pace)
            for index in range(first, last + 1):
                share = (self._original[index] - begin) / took if took > 0 else 1.0
                times.append(at + share * lasts)
            at, begin, first = at + lasts, self._original[last], last + 1
        times += [at] * (len(self._events) - len(times))
        self._times = times

    @property
    def length(self) -> float:
        return self._times[-1]

    @property
    def steps(self) -> int:
        return len(self._step_ends)

    def seek(self, position: float) -> bool:
        """Bring `episode` to the position; whether that changed anything."""
        wanted = bisect_right(self._times, position)
        if wanted == self._applied:
            return False
        if wanted < self._applied:
            self.episode = Episode()
            self._applied = 0
        for event in self._events[self._applied : wanted]:
            self.episode.apply(event)
        self._applied = wanted
        return True

    def step_at(self, position: float) -> int:
        """Index of the newest step that is over at the position, -1 before the first."""
        return sum(self._times[end] <= position for end in self._step_ends) - 1

    def end_of(self, step: int) -> float:
        """Position at which step `step` is over; 0 before the first, the end beyond the last."""
        if step < 0 or not self._step_ends:
            return 0.0
        return self._times[self._step_ends[min(step, self.steps - 1)]]

    def share_at(self, position: float) -> float:
        """The position in steps: 2.5 is half-way through the third."""
        step = self.step_at(position)
        begin, end = self.end_of(step), self.end_of(step + 1)
        return step + 1 + ((position - begin) / (end - begin) if end > begin else 0.0)

    def position_of(self, share: float) -> float:
        """The reverse of `share_at`."""
        step = int(share) - 1
        begin, end = self.end_of(step), self.end_of(step + 1)
        return begin + (share - int(share)) * (end - begin)


def _recorded(trace: Trace) -> tuple[list[Event], list[float]]:
    """The trace's events and the seconds after the start at which each came."""
    events: list[Event] = []
    times: list[float] = []
    clock = 0.0

    def pass_time(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    def note(event: Event) -> None:
        events.append(event)
        times.append(clock)

    replay(trace, [note], speed=1.0, sleep=pass_time)
    return events, times
