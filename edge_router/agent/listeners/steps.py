"""Put the events of one step together, for listeners that write a line a step."""

from __future__ import annotations

from dataclasses import dataclass

from edge_router.agent.events import (
    EpisodeStarted,
    Event,
    Routed,
    StepFinished,
    StepStarted,
    TurnsDropped,
)


@dataclass(frozen=True)
class StepEvents:
    """All events of one step; its text is in `finished`."""

    started: StepStarted
    routed: Routed
    finished: StepFinished
    dropped: TurnsDropped | None = None


class StepCollector:
    """Feed it every event; it returns a step when the step is finished."""

    def __init__(self) -> None:
        self._started: StepStarted | None = None
        self._routed: Routed | None = None
        self._dropped: TurnsDropped | None = None

    def __call__(self, event: Event) -> StepEvents | None:
        if isinstance(event, EpisodeStarted):
            self._started = self._routed = self._dropped = None
        elif isinstance(event, StepStarted):
            self._started = event
        elif isinstance(event, Routed):
            self._routed = event
        elif isinstance(event, TurnsDropped):
            self._dropped = event
        elif isinstance(event, StepFinished):
            return self._finish(event)
        return None

    def _finish(self, finished: StepFinished) -> StepEvents:
        if self._started is None or self._routed is None:
            raise ValueError(f"step {finished.step} was finished but never started and routed")
        step = StepEvents(self._started, self._routed, finished, self._dropped)
        self._started = self._routed = self._dropped = None
        return step
