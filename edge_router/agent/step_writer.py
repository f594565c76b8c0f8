"""The model's part of one step: from the prompt's tokens to a text by the tier the router chose.

    prefill on the low tier -> its logits -> features -> router -> tier -> handoff, decode

A router that decides at the draft is asked later: the low tier drafts the step,
and where the router does not keep the draft a higher tier verifies it. The draft is
then accepted up to the first token that the higher tier would not have written, and
this tier goes on from there. A router may also have the low tier draft a few tokens
at a time (`Router.chunk`), or have every tier below the chosen one verify the draft
first, each what the one before made of it (`Router.chained`).

The episode loop and `agent.chat` write with it, so a router sees the same
numbers in both. It emits `StepStarted`, `Routed` and `TextDecoded`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from edge_router.agent.events import DraftPass, Event, Latency, Routed, StepStarted, TextDecoded
from edge_router.agent.history import History, WatchedSampler, draft_of
from edge_router.engine.clock import ms_since
from edge_router.engine.constrain import Constraint
from edge_router.engine.generate import Limits, Proposal
from edge_router.engine.ladder import Ladder
from edge_router.engine.sampling import Sampler
from edge_router.engine.tier import Generation, Ingest
from edge_router.router.base import Decision, Features, Router
from edge_router.router.features import extract, with_draft
from edge_router.tasks.parse import Parsed

Passes = tuple[DraftPass, ...]
Escalate = Literal["verify", "rewrite"]  # what becomes of a draft: "rewrite" throws it away
# The random stream of the chosen tier where it verifies. Drafts are drawn from stream 0, tiers
# between take the streams behind this one.
_VERIFYING: Final = 1


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
    passes: Passes = ()  # the tiers that verified the draft before the chosen one

    def latency(self, env_ms: float = 0.0) -> Latency:
        """Where the step's time went, with the environment's own."""
        g, read = self.generation, self.ingest
        escalated = self.draft if g is not self.draft else None
        draft_ms = escalated.decode_ms if escalated else g.draft_ms
        own = _latency_of(g)
        return replace(
            own,
            prefill_ms=read.ms,
            route_ms=self.route_ms,
            env_ms=env_ms,
            prefill_tokens=read.new_tokens,
            draft_ms=draft_ms + sum(one.latency.model_ms for one in self.passes),
            draft_tokens=escalated.decode_tokens if escalated else g.draft_tokens,
            load_ms=read.load_ms + own.load_ms,
            load_tokens=read.load_tokens + own.load_tokens,
            **self._guessed(escalated),
        )

    def _guessed(self, escalated: Generation | None) -> dict[str, int]:
        """What was looked up for the step's text, by all tiers that wrote at it."""
        texts: list[Generation | Latency] = [self.generation, *(one.latency for one in self.passes)]
        if escalated is not None:
            texts.append(escalated)
        return {
            "lookup_tokens": sum(text.lookup_tokens for text in texts),
            "lookup_accepted": sum(text.lookup_accepted for text in texts),
        }


def _latency_of(g: Generation) -> Latency:
    """The part of the tier that wrote, or verified."""
    return Latency(
        handoff_ms=g.handoff_ms,
        catchup_ms=g.catchup_ms,
        decode_ms=g.decode_ms,
        handoff_tokens=g.handoff_tokens,
        catchup_tokens=g.catchup_tokens,
        decode_tokens=g.decode_tokens,
        verify_ms=g.verify_ms,
        verify_tokens=g.verify_tokens,
        verify_batches=g.verify_batches,
        drafted=g.drafted,
        accepted=g.accepted,
        rewritten=g.rewritten,
        load_ms=g.load_ms,
        load_tokens=g.load_tokens,
        lookup_tokens=g.lookup_tokens,
        lookup_accepted=g.lookup_accepted,
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
        *,
        escalate: Escalate = "verify",
        lookup: int = 0,
    ) -> None:
        """`dial` is asked after the prompt was read: a setting turned meanwhile counts.

        `lookup` is as in `Ladder.generate`.
        """
        self._escalate, self._lookup = escalate, lookup
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
        route_ms = ms_since(started)
        draft = None
        if self._at_draft:
            # Its first token comes from the logits that the features were taken from: 45
            # microseconds at 152k tokens that need not be spent twice.
            first = features.measure
            self.sampler.at_step(step, first=first)
            limits = _limits(answer, constraint)
            draft = self._ladder.generate(0, self.sampler, keep=True, lookup=self._lookup, **limits)
        started = time.perf_counter()
        if draft is not None:
            features = self._with_draft(features, answer.parse(draft.text), prompt)
        decision = self._router.decide(features)
        route_ms += ms_since(started)
        self._announce(step, features, decision, draft)
        passes: Passes = ()
        if draft is not None and decision.tier == 0:
            generation = draft
            if draft.text:
                self._emit(TextDecoded(step, draft.text))
        else:
            limits = _limits(answer, constraint)
            generation, passes = self._by(decision.tier, step, draft, limits)
        return Written(decision, features, generation, draft, ingest, route_ms, passes)

    def _with_draft(self, features: Features, step: Parsed, prompt: Sequence[int]) -> Features:
        facts = draft_of(self._ladder.vocab, self.sampler, step, self._history, prompt)
        return with_draft(features, facts)

    def _by(
        self, tier: int, step: int, draft: Generation | None, limits: Limits
    ) -> tuple[Generation, Passes]:
        """The step by a tier; by a higher one with the help of a draft, where there may be one."""

        def show(text: str) -> None:
            self._emit(TextDecoded(step, text))

        ladder, sampler, lookup = self._ladder, self.sampler, self._lookup
        if draft is not None and self._escalate == "verify":
            between = range(1, tier) if self._router.chained else ()
            proposal, passes = self._through(between, step, draft.proposal, limits)
            sampler.at_step(step, _VERIFYING)
            written = ladder.verify(tier, proposal, sampler, on_text=show, lookup=lookup, **limits)
            return written, passes
        if tier > 0 and self._router.chunk:
            drafter, chunk = sampler.unwatched(), self._router.chunk
            drafter.at_step(step)
            sampler.at_step(step, _VERIFYING)
            written = ladder.speculate(
                tier, sampler, drafter, chunk=chunk, on_text=show, lookup=lookup, **limits
            )
            return written, ()
        sampler.at_step(step)
        return ladder.generate(tier, sampler, on_text=show, lookup=lookup, **limits), ()

    def _through(
        self, tiers: Iterable[int], step: int, proposal: Proposal, limits: Limits
    ) -> tuple[Proposal, Passes]:
        """What `tiers` make of a draft, each of what the one before made of it."""
        passes = []
        for tier in tiers:
            sampler = self.sampler.unwatched()
            sampler.at_step(step, _VERIFYING + tier)
            made = self._ladder.verify(
                tier, proposal, sampler, keep=True, lookup=self._lookup, **limits
            )
            passes.append(DraftPass(self._ladder.names[tier], tier, _latency_of(made)))
            proposal = made.proposal
        return proposal, tuple(passes)

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


def _limits(answer: Answer, constraint: Constraint | None) -> Limits:
    return {"max_tokens": answer.max_tokens, "stop": answer.stop, "constrain": constraint}
