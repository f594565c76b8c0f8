"""One JSON object a step on stdout, for programs; what people should know goes to stderr."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any, TextIO

from edge_router.agent.escalation import draft_summaries, summary
from edge_router.agent.events import (
    EpisodeFinished,
    EpisodeStarted,
    Event,
    Noted,
    StepCollector,
    StepEvents,
)
from edge_router.agent.listeners.printer import outcome
from edge_router.agent.listeners.slowness import SpeedWatch
from edge_router.ladders.costs import CostProfile
from edge_router.screen.printable import one_line


class JsonPrinter:
    """Writes a line to `file` as each step ends; game and outcome go to `diagnostics`."""

    def __init__(
        self,
        file: TextIO,
        diagnostics: TextIO | None = None,
        *,
        profile: CostProfile | None = None,
    ) -> None:
        self._file = file
        self._diagnostics = sys.stderr if diagnostics is None else diagnostics
        self._steps = StepCollector()
        self._watch = SpeedWatch(profile)

    def __call__(self, event: Event) -> None:
        step = self._steps(event)
        if step is not None:
            self._file.write(json.dumps(step_object(step)) + "\n")
            self._file.flush()
        elif isinstance(event, EpisodeStarted):
            self._tell(f"{event.task} {event.game}: {event.goal}")
        elif isinstance(event, EpisodeFinished):
            self._tell(outcome(event))
            for said in filter(None, (summary(event.escalations), *draft_summaries(event))):
                self._tell(said)

        note = event.text if isinstance(event, Noted) else self._watch(event)
        if note:
            self._tell(note)

    def _tell(self, sentence: str) -> None:
        self._diagnostics.write(one_line(sentence) + "\n")
        self._diagnostics.flush()


def step_object(step: StepEvents) -> dict[str, Any]:
    """A step as one flat object; times are in milliseconds."""
    finished = asdict(step.finished)
    latency = finished.pop("latency")
    return {
        **finished,
        "changed": step.finished.changed,
        "reason": step.routed.reason,
        "probability": step.routed.probability,
        "prompt_tokens": step.started.prompt_tokens,
        "dropped_turns": step.dropped.turns if step.dropped else 0,
        **latency,
        "tokens_per_second": round(step.finished.latency.tokens_per_second, 3),
        "features": step.routed.features,
    }
