"""Play a trace through the listeners of a live run, at its own pace or step by step."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence

from edge_router.agent.events import Event, Listener, StepEvents, TextDecoded
from edge_router.agent.trace import Trace

_WORDS = re.compile(r"\s*\S+|\s+$")


def replay(
    trace: Trace,
    listeners: Sequence[Listener],
    *,
    speed: float | None = None,
    step: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Emit the events of `trace` again.

    `speed` 1 takes the time that the run took, 2 half of it, None none; `step`
    is called before each step and may wait.
    """

    def emit(event: Event, ms: float = 0.0) -> None:
        if speed is not None and ms > 0:
            sleep(ms / 1000 / speed)
        for listener in listeners:
            listener(event)

    emit(trace.started)
    for recorded in trace.steps:
        if step is not None:
            step()
        for event, ms in _events(recorded):
            emit(event, ms)
    if trace.finished is not None:
        emit(trace.finished)


def _events(step: StepEvents) -> Iterator[tuple[Event, float]]:
    """The events of a step, each with the milliseconds that passed before it."""
    latency, number = step.finished.latency, step.finished.step
    if step.dropped is not None:
        yield step.dropped, 0.0
    yield step.started, latency.load_ms + latency.prefill_ms
    yield step.routed, latency.route_ms
    wait = latency.draft_ms + latency.handoff_ms + latency.catchup_ms + latency.verify_ms
    words = _WORDS.findall(step.finished.text)
    for word in words:
        yield TextDecoded(number, word), wait + latency.decode_ms / len(words)
        wait = 0.0
    yield step.finished, latency.env_ms
