"""From events to what has happened so far in one episode."""

from __future__ import annotations

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
