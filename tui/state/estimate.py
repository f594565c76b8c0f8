"""What the run would have cost on the high tier alone, from the run's own measured rates.

An estimate, and shown as one: the high tier's decode speed comes from the
steps it wrote here, its reading speed from the tokens it read itself
(`handoff:N` and `exact`; with plain handoff it reads one token a step, which
says nothing about reading many, so the low tier's speed stands in).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_router.agent.events import Latency, StepFinished

MANY = 8  # tokens a step from which catching up counts as reading


@dataclass(frozen=True)
class AlwaysHigh:
    """Milliseconds the same steps would take on the high tier alone."""

    ms: float
    reads_as_low: bool  # the high tier's own reading speed was not measured


def always_high(steps: Sequence[StepFinished], high: int) -> AlwaysHigh | None:
    """The estimate, or None while the high tier has written nothing to go by."""
    own = [s.latency for s in steps if s.tier_index == high and s.latency.decode_tokens]
    if not own:
        return None
    decode_rate = sum(x.decode_ms for x in own) / sum(x.decode_tokens for x in own)
    reading, is_its_own = reading_ms_per_token(steps)
    read, written_before = 0, 0
    for step in steps:
        # What a higher tier wrote is read once more by the low tier; alone it would not be.
        again = written_before if step.step and high else 0
        read += max(1, step.latency.prefill_tokens - again)
        written_before = _tokens(step.latency) if step.tier_index else 0
    written = sum(_tokens(s.latency) for s in steps)
    return AlwaysHigh(read * reading + written * decode_rate, not is_its_own and high > 0)


def _tokens(latency: Latency) -> int:
    """Tokens of a step's text: those of a draft that was accepted were not decoded."""
    verified = latency.accepted + latency.rewritten
    return verified if latency.verify_batches else latency.decode_tokens


def reading_ms_per_token(steps: Sequence[StepFinished]) -> tuple[float, bool]:
    """Milliseconds to read a token, and whether a higher tier was measured at it."""
    own = [s.latency for s in steps if s.latency.catchup_tokens >= MANY]
    if own:
        return sum(x.catchup_ms for x in own) / sum(x.catchup_tokens for x in own), True
    tokens = sum(s.latency.prefill_tokens for s in steps)
    return (sum(s.latency.prefill_ms for s in steps) / tokens if tokens else 0.0), False


@dataclass(frozen=True)
class HandedOver:
    """KV that was copied instead of computed; `saved_ms` is an estimate and may be negative."""

    tokens: int
    ms: float
    saved_ms: float


def handed_over(steps: Sequence[StepFinished]) -> HandedOver:
    """What handing over has saved up to now."""
    tokens = sum(s.latency.handoff_tokens for s in steps)
    ms = sum(s.latency.handoff_ms for s in steps)
    return HandedOver(tokens, ms, tokens * reading_ms_per_token(steps)[0] - ms)
