"""A router that a person may overrule while an episode runs.

The router inside is asked before every step all the same, so one that carries a
state from step to step (a GRU) sees the whole episode, and a listener can tell
what it would have done.
"""

from __future__ import annotations

from dataclasses import replace

from edge_router.router.base import Decision, Features, Router


class SteeredRouter(Router):
    """`inner`, unless somebody says otherwise; may be steered from another thread."""

    def __init__(self, inner: Router) -> None:
        self.inner = inner
        self.spec = inner.spec
        self.decide_at = inner.decide_at
        self.chunk = inner.chunk
        self.score = inner.score
        self.heeds_dial = inner.heeds_dial
        self.forced: int | None = None  # the tier that writes the next step, whatever `inner` says
        self._tiers: tuple[str, ...] = ()

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        """Begin an episode; a tier that is forced already stays forced for its first step."""
        self.inner.reset(tiers, seed)
        self._tiers = tiers

    def decide(self, features: Features) -> Decision:
        """What `inner` says, or the tier that somebody has forced for this one step."""
        decision = self.inner.decide(features)
        forced, self.forced = self.forced, None
        if forced is None:
            return decision
        wanted = self._tiers[decision.tier]
        reason = f"forced; the router wanted {wanted}: {decision.reason}"
        return replace(decision, tier=forced, reason=reason, forced=True)

    def dial_for(self, share: float) -> float:
        """As `inner`."""
        return self.inner.dial_for(share)
