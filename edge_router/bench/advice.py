"""Which two precisions to convert to, and what they promise: arithmetic on measured times.

A step reads new tokens on the low tier and writes a draft there. Where the router escalates, the
high tier reads the draft in batches, keeps its accepted beginning and writes the rest. The KV
handed over and the router's own time are a few milliseconds and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

import numpy as np

from edge_router.bench.candidates import BATCHES, READ, Candidate, CandidateTimes
from edge_router.bench.roofline import CoresAndMemory, Roofline
from edge_router.engine.tier_sizes import BITS_A_WEIGHT
from edge_router.engine.verify import ROWS

HIGH: Final = "q8_0"  # as good as F16, by every measurement of `convert`
LEAST_BITS: Final = 4.4  # a weight, as `tier_sizes` counts them: q3_k_m has fewer, q4_0 more
WORTH: Final = 0.97  # of the high tier's seconds: what is hardly less is not worth a second model
CORES: Final = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Assumptions:
    """What nobody can measure without the model and its task."""

    reads: int = 64  # tokens of a step's observation
    writes: int = 32  # of its thought and action
    escalated: float = 0.2  # share of the steps
    accepted: float = 0.9  # that the high tier writes a draft's next token as well

    @property
    def accepted_tokens(self) -> float:
        """How long the accepted beginning of a draft is, on average."""
        p = self.accepted
        return float(self.writes) if p == 1 else p * (1 - p**self.writes) / (1 - p)


def alone(times: CandidateTimes, a: Assumptions) -> float:
    """Seconds of a step that one tier reads and writes."""
    return times.prefill / READ * a.reads + times.decode * a.writes


def verified(times: CandidateTimes, a: Assumptions) -> float:
    """Seconds of reading a draft in batches, each of which is read if all before it was accepted.

    Lines between the measured lengths.
    """
    known = ((1, times.decode), *zip(BATCHES, times.verify, strict=True))
    x, y = zip(*known, strict=True)
    return sum(
        a.accepted**start * float(np.interp(min(ROWS, a.writes - start), x, y))
        for start in range(0, a.writes, ROWS)
    )


def routed(low: CandidateTimes, high: CandidateTimes, a: Assumptions) -> float:
    """Seconds of a step on average: the low tier's, and the high one's for escalated steps."""
    rest = a.writes - a.accepted_tokens
    return alone(low, a) + a.escalated * (verified(high, a) + rest * high.decode)


@dataclass(frozen=True)
class AdvisedPair:
    """The tiers to convert to; None where the high tier is better off alone."""

    low: Candidate | None
    high: Candidate

    @classmethod
    def best(cls, candidates: Sequence[Candidate], a: Assumptions) -> AdvisedPair:
        """The lower tier that makes routed steps quickest beside the best precision measured.

        The most precise of those that are hardly slower; none below four bits, whose drafts are
        accepted less often than a step assumes.
        """
        high, takes = _taken(candidates, a)
        least = min(takes.values(), default=inf)
        if least >= WORTH * alone(high.times, a):
            return cls(None, high)
        near = [c for c, seconds in takes.items() if WORTH * seconds <= least]
        return cls(max(near, key=lambda c: c.weight_bytes), high)


def _taken(
    candidates: Sequence[Candidate], a: Assumptions
) -> tuple[Candidate, dict[Candidate, float]]:
    """The high tier, and seconds of a routed step with each precision that may be the low one."""
    high = next((c for c in candidates if c.precision == HIGH), candidates[0])
    return high, {
        c: routed(c.times, high.times, a)
        for c in candidates
        if c.weight_bytes < high.weight_bytes and BITS_A_WEIGHT[c.precision] > LEAST_BITS
    }


def verdict(candidates: Sequence[Candidate], a: Assumptions, shape: str) -> str:
    """The one sentence."""
    pair = AdvisedPair.best(candidates, a)
    high = f"{alone(pair.high.times, a):.2f} s on {pair.high.precision}"
    step = f"a step of {a.reads} tokens read and {a.writes} written"
    if pair.low is None:
        return (
            f"convert {shape} to {pair.high.precision} alone: {step} takes {high}, and no lower"
            f" precision makes routed steps {100 * (1 - WORTH):.0f} % quicker on this machine"
            f"{_nearest(candidates, a)}"
        )
    low = f"{alone(pair.low.times, a):.2f} s on {pair.low.precision}"
    both = routed(pair.low.times, pair.high.times, a)
    gain = 1 - both / alone(pair.high.times, a)
    return (
        f"convert {shape} with --tiers {pair.low.precision},{pair.high.precision}: {step} takes"
        f" {low}, {high} and {both:.2f} s routed ({100 * gain:.0f} % less) if"
        f" {100 * a.escalated:.0f} % of the steps escalate and the high tier accepts each token of"
        f" a draft with probability {a.accepted:g}"
    )


def _nearest(candidates: Sequence[Candidate], a: Assumptions) -> str:
    """What comes nearest to being worth it, " (q4_k_m: 2.35 s)"; "" where nothing was measured."""
    _, takes = _taken(candidates, a)
    if not takes:
        return ""
    least = min(takes, key=lambda c: takes[c])
    return f" ({least.precision}: {takes[least]:.2f} s)"


def command(candidates: Sequence[Candidate], a: Assumptions, shape: str, *, known: bool) -> str:
    """What to type; `known` is whether the shape's model can be fetched by its name."""
    pair = AdvisedPair.best(candidates, a)
    tiers = ",".join(c.precision for c in (pair.low, pair.high) if c is not None)
    if known:
        return f"edge-router models pull {shape} --tiers {tiers}"
    return f"edge-router convert CHECKPOINT --tiers {tiers}"


# -- other numbers of cores -----------------------------------------------------------------------


def predicted(candidate: Candidate, machine: CoresAndMemory, cores: int) -> CandidateTimes:
    """The times on another number of cores; what was measured is kept where it is the same."""
    if cores == machine.threads:
        return candidate.times
    roofline = Roofline(machine.threads / cores, machine.bandwidth(cores))

    def call(seconds: float) -> float:
        return roofline.call(seconds, candidate.weight_bytes)

    now = candidate.times
    return CandidateTimes(call(now.prefill), call(now.decode), tuple(map(call, now.verify)))


def by_cores(
    candidates: Sequence[Candidate], machine: CoresAndMemory, a: Assumptions
) -> list[dict[str, Any]]:
    """Rows of a results file: seconds a step on 1 to 16 cores, with the low tier best there."""
    rows = []
    for cores in sorted({*CORES, machine.threads}):
        there = [replace(c, times=predicted(c, machine, cores)) for c in candidates]
        pair = AdvisedPair.best(there, a)
        low, high = pair.low.times if pair.low else None, pair.high.times
        rows.append(
            {
                "cores": cores,
                "predicted": cores != machine.threads,
                "low": pair.low.precision if pair.low else "",
                "high_s": alone(high, a),
                "low_s": alone(low, a) if low else None,
                "routed_s": routed(low, high, a) if low else None,
            }
        )
    return rows


def with_bandwidth(machine: CoresAndMemory, given: float | None) -> CoresAndMemory:
    """The machine with memory of `given` bytes a second instead of what was measured."""
    return machine if given is None else replace(machine, all=given)
