"""Routers that only a benchmark needs; importing this registers them.

- `mix:0.7/0.2/0.1`: each tier with its share, by chance. Given the shares that another router
  used, it shows what that router's choices are worth at the same cost ("matched ratio").
- `plan:0.1.0`: tier 0, then 1, then 0, and the low tier from there on. An oracle's choices,
  found in rollouts, are played on the real engine in this way instead of being believed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from edge_router.errors import UserError
from edge_router.router.base import Decision, Features, Router
from edge_router.router.registry import RouterKind, register
from edge_router.router.spec import RouterSpec

MIX, PLAN = "mix", "plan"
Number = TypeVar("Number", int, float)


class MixRouter(Router):
    """Each tier by chance, with its share."""

    def __init__(self, shares: Sequence[float]) -> None:
        if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 1e-3:
            raise UserError(f"a mix needs shares of 0 or more that add up to 1, not {shares}")
        self.shares = tuple(shares)
        self.spec = mix_spec(shares)
        self._random = random.Random(0)

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        if len(tiers) != len(self.shares):
            raise UserError(
                f"router {self.spec}: {len(self.shares)} shares for a ladder of {len(tiers)} tiers"
            )
        self._random = random.Random(f"mix/{seed}")

    def decide(self, features: Features) -> Decision:
        tier = self._random.choices(range(len(self.shares)), self.shares)[0]
        return Decision(tier, f"by chance, share {self.shares[tier]:.3f}")


class PlanRouter(Router):
    """The tiers of a plan, step by step, then the low tier."""

    def __init__(self, plan: Sequence[int]) -> None:
        self.plan = tuple(plan)
        self.spec = plan_spec(plan)
        self._step = 0

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        if any(not 0 <= tier < len(tiers) for tier in self.plan):
            raise UserError(f"router {self.spec}: the ladder has {len(tiers)} tiers, from 0 on")
        self._step = 0

    def decide(self, features: Features) -> Decision:
        planned = self._step < len(self.plan)
        tier = self.plan[self._step] if planned else 0
        self._step += 1
        return Decision(tier, "as planned" if planned else "after the plan")


def mix_spec(shares: Sequence[float]) -> RouterSpec:
    return RouterSpec(MIX, "/".join(f"{share:.4f}" for share in shares))


def plan_spec(plan: Sequence[int]) -> RouterSpec:
    return RouterSpec(PLAN, ".".join(map(str, plan)))


def _mix(spec: RouterSpec) -> Router:
    return MixRouter(_numbers(spec, "/", float))


def _plan(spec: RouterSpec) -> Router:
    return PlanRouter(_numbers(spec, ".", int))


def _numbers(spec: RouterSpec, between: str, kind: type[Number]) -> list[Number]:
    try:
        return [kind(text) for text in (spec.argument or "").split(between) if text]
    except ValueError:
        raise UserError(f"router {spec}: {spec.argument!r} is no list of numbers") from None


register(RouterKind(MIX, "each tier by chance, with its share", _mix, "SHARES", listed=False))
register(RouterKind(PLAN, "the tiers of a plan, step by step", _plan, "TIERS", listed=False))
