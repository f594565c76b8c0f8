"""A router that a person may steer while an episode runs: a forced tier, a turned dial.

The router inside is asked before every step all the same, so one that carries a
state from step to step (a GRU) sees the whole episode, and a listener can tell
what it would have done.

The dial reaches trained routers as a feature. Routers with a threshold know no
dial, so it moves their threshold here: T * (1 - dial) / dial, which is T at 0.5,
nothing at 1 (always the dearest tier) and out of reach at 0 (always the cheapest).
"""

from __future__ import annotations

import math
from dataclasses import replace

from edge_router.router.base import Decision, Features, Router, decide_at
from edge_router.router.baselines import EntropyRouter, MarginRouter
from edge_router.router.onnx_router import OnnxRouter

NEUTRAL = 0.5  # the dial's setting that leaves a threshold as it was given


class SteeredRouter:
    """`inner`, unless somebody says otherwise; may be steered from another thread."""

    def __init__(self, inner: Router) -> None:
        self.inner = inner
        self.spec = inner.spec
        self.decide_at = decide_at(inner)
        self.forced: int | None = None  # the tier that writes the next step, whatever `inner` says
        self._tiers: tuple[str, ...] = ()

    @property
    def heeds_dial(self) -> bool:
        """Whether turning the dial can change a decision."""
        return isinstance(self.inner, EntropyRouter | MarginRouter | OnnxRouter)

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        """Begin an episode; a tier that is forced already stays forced for its first step."""
        self.inner.reset(tiers, seed)
        self._tiers = tiers

    def decide(self, features: Features) -> Decision:
        decision = self.inner.decide(features)
        if isinstance(self.inner, EntropyRouter | MarginRouter):
            decision = turned(decision, features["dial"])
        forced, self.forced = self.forced, None
        if forced is None:
            return decision
        wanted = self._tiers[decision.tier]
        reason = f"forced; the router wanted {wanted}: {decision.reason}"
        return replace(decision, tier=forced, reason=reason, forced=True)


def turned(decision: Decision, dial: float) -> Decision:
    """The decision with its thresholds moved by the dial (0 to 1)."""
    if dial == NEUTRAL or decision.score is None or not decision.thresholds:
        return decision
    factor = (1 - dial) / dial if dial > 0 else math.inf
    # A threshold of 0 always takes the dearest tier; at dial 0 even that one gives way.
    thresholds = tuple(t * factor if t or dial > 0 else math.inf for t in decision.thresholds)
    tier = sum(decision.score >= threshold for threshold in thresholds)
    limit = thresholds[max(tier - 1, 0)]
    reason = f"doubt {decision.score:.4f} {'>=' if tier else '<'} {limit:.4f} (dial {dial:.2f})"
    return replace(decision, tier=tier, reason=reason, thresholds=thresholds)
