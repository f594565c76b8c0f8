"""The model's part of one step: from the prompt's tokens to a text by the tier the router chose.

    prefill on the low tier -> its logits -> features -> router -> tier -> handoff, decode

A router that decides at the draft is asked later: the low tier drafts the step,
and a higher tier decodes it instead where the router does not accept the draft.

The episode loop and `agent.chat` write with it, so a router sees the same
numbers in both. It emits `StepStarted`, `Routed` and `TextDecoded`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from edge_router.agent.events import Event, Latency, Routed, StepStarted, TextDecoded
from edge_router.agent.history import History, WatchedSampler, draft_of
from edge_router.engine.constrain import Constraint
from edge_router.engine.ladder import Ladder
from edge_router.engine.sampling import Sampler
from edge_router.engine.tier import Generation, Ingest
from edge_router.router.base import Decision, Features, Router
from edge_router.router.features import extract, with_draft
from edge_router.router.logits import Measure
from edge_router.tasks.parse import Parsed


class Answer(Protocol):
    """What a step's text may be: it ends before a `stop` string or after `max_tokens`."""

    @property
    def max_tokens(self) -> int: ...

    @property
    def stop(self) -> tuple[str, ...]: ...

    def parse(self, text: str) -> Parsed:
        """Thought and action of a text; a draft's features rest on it."""
        ...


@dataclass(frozen=True)
class Written:
    """A step's text, who wrote it and what that took."""

    decision: Decision
    features: Features
    generation: Generation
    draft: Generation | None  # the low tier's, when the router decides at the draft
    ingest: Ingest
    route_ms: float

    @property
    def rejected(self) -> Generation | None:
        """The draft that was not kept."""
        return self.draft if self.generation is not self.draft else None

    def latency(self, env_ms: float = 0.0) -> Latency:
        """Where the step's time went, with the environment's own."""
        g, rejected = self.generation, self.rejected
        return Latency(
            prefill_ms=self.ingest.ms,
            route_ms=self.route_ms,
            handoff_ms=g.handoff_ms,
            catchup_ms=g.catchup_ms,
            decode_ms=g.decode_ms,
            env_ms=env_ms,
            prefill_tokens=self.ingest.new_tokens,
            handoff_tokens=g.handoff_tokens,
            catchup_tokens=g.catchup_tokens,
            decode_tokens=g.decode_tokens,
            draft_ms=rejected.decode_ms if rejected else 0.0,
            draft_tokens=rejected.decode_tokens if rejected else 0,
            load_ms=self.ingest.load_ms + g.load_ms,
            load_tokens=self.ingest.load_tokens + g.load_tokens,
        )


class StepWriter:
    """Writes the steps of one episode or conversation, whose `history` the caller keeps."""

    def __init__(
        self,
        ladder: Ladder,
        router: Router,
        sampler: Sampler,
        history: History,
        emit: Callable[[Event], None],
        dial: Callable[[], float],
    ) -> None:
        """`dial` is asked after the prompt was read: a setting turned meanwhile counts."""
        self._ladder, self._router, self._history = ladder, router, history
        self.sampler = WatchedSampler(sampler)
        self._at_draft = router.decide_at == "draft"
        self._emit, self._dial = emit, dial

    def write(
        self,
        step: int,
        prompt: Sequence[int],
        answer: Answer,
        constraint: Constraint | None = None,
        *,
        opening: int = 0,
    ) -> Written:
        """Write step number `step` after the tokens `prompt`, which have room in the context.

        The first `opening` of them are what other texts begin with as well.
        """
        ingest = self._ladder.prefill(prompt, opening=opening)
        self._emit(StepStarted(step, len(prompt), ingest.new_tokens))
        started = time.perf_counter()
        self._history.dial = self._dial()
        features = extract(self._ladder.logits(), self._history.context(len(prompt)))
        route_ms = _ms_since(started)
        draft = None
        if self._at_draft:
            # Its first token comes from the logits that the features were taken from: 45
            # microseconds at 152k tokens that need not be spent twice.
            first = features.measure
            draft = self._generate(step, 0, answer, constraint, shown=False, first=first)
        started = time.perf_counter()
        if draft is not None:
            features = self._with_draft(features, answer.parse(draft.text), prompt)
        decision = self._router.decide(features)
        route_ms += _ms_since(started)
        self._announce(step, features, decision, draft)
        if draft is None or decision.tier > 0:
            generation = self._generate(step, decision.tier, answer, constraint)
        else:
            generation = draft
            if draft.text:
                self._emit(TextDecoded(step, draft.text))
        return Written(decision, features, generation, draft, ingest, route_ms)

    def _with_draft(self, features: Features, step: Parsed, prompt: Sequence[int]) -> Features:
        facts = draft_of(self._ladder.vocab, self.sampler, step, self._history, prompt)
        return with_draft(features, facts)

    def _generate(
        self,
        step: int,
        tier: int,
        answer: Answer,
        constraint: Constraint | None,
        *,
        shown: bool = True,
        first: Measure | None = None,
    ) -> Generation:
        self.sampler.at_step(step, first=first)
        listening_ms = 0.0

        def show(text: str) -> None:
            nonlocal listening_ms
            started = time.perf_counter()
            self._emit(TextDecoded(step, text))
            listening_ms += _ms_since(started)

        generation = self._ladder.generate(
            tier,
            self.sampler,
            max_tokens=answer.max_tokens,
            stop=answer.stop,
            constrain=constraint,
            on_text=show if shown else None,
        )
        # A slow terminal is not a slow model.
        return replace(generation, decode_ms=max(0.0, generation.decode_ms - listening_ms))

    def _announce(
        self, step: int, features: Features, decision: Decision, draft: Generation | None
    ) -> None:
        self._emit(
            Routed(
                step=step,
                tier=self._ladder.names[decision.tier],
                tier_index=decision.tier,
                reason=decision.reason,
                probability=decision.probability,
                features=dict(zip(features.names, map(float, features.vector), strict=True)),
                decide_at="prompt" if draft is None else "draft",
                draft="" if draft is None else draft.text,
                score=decision.score,
                thresholds=decision.thresholds,
                forced=decision.forced,
            )
        )


def _ms_since(started: float) -> float:
    return 1000.0 * (time.perf_counter() - started)
