"""A router that a person may overrule while an episode runs.

The router inside is asked before every step all the same, so one that carries a
state from step to step (a GRU) sees the whole episode, and a listener can tell
what it would have done.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

from edge_router.router.base import Decision, Features, Router


@dataclass
class _Steering:
    """What was asked for, the same in all copies of a router."""

    forced: int | None = None


class SteeredRouter(Router):
    """`inner`, unless somebody says otherwise; may be steered from another thread.

    A copy, as each conversation of a server has one, has a copy of `inner` and is steered alike.
    """

    def __init__(self, inner: Router) -> None:
        self.inner = inner
        self.spec = inner.spec
        self.decide_at = inner.decide_at
        self.chunk = inner.chunk
        self.chained = inner.chained
        self.score = inner.score
        self.heeds_dial = inner.heeds_dial
        self._steering = _Steering()
        self._tiers: tuple[str, ...] = ()

    def __copy__(self) -> SteeredRouter:
        made = SteeredRouter(copy.copy(self.inner))
        made._steering, made._tiers = self._steering, self._tiers
        return made

    @property
    def forced(self) -> int | None:
        """The tier that writes the next step, whatever `inner` says."""
        return self._steering.forced

    @forced.setter
    def forced(self, tier: int | None) -> None:
        self._steering.forced = tier

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
