"""Hold any router that has a score to a share of the steps, whatever model it runs on.

A threshold that suits one model escalates every step of another: on ReAct prompts the entropy of
SmolLM2's first token was 3.4, 3.3 and 1.0 nats. What carries over is the order of a model's own
scores. So a step is escalated where its score is among the highest `share` of the latest ones,
and the share that was really escalated steers: scores that drift away neither end nor flood it.
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from edge_router.errors import UserError
from edge_router.router.base import Decision, Features, Router
from edge_router.router.feature_table import column
from edge_router.router.rules import NEUTRAL
from edge_router.router.spec import BUDGET, RouterSpec

_WINDOW: Final = 200  # scores that are remembered: what a model is asked changes
_KEPT: Final = 50  # scores that stand for those of a process before: a quarter of the window
# The share drifts by chance: steps too many or too few are let be up to the first number, and
# beyond it each moves the wanted share by one part of the second.
_LET_BE: Final = 1.5
_GAIN: Final = 3.0
_DIAL: Final = column("dial")


class RunningThreshold:
    """The score from which on a step is among the `share` highest."""

    def __init__(self, share: float) -> None:
        self.share = share
        self._latest: deque[float] = deque(maxlen=_WINDOW)
        self._sorted: list[float] = []
        self.steps = 0  # decided here
        self._escalated = 0

    @property
    def scores(self) -> Sequence[float]:
        """The latest ones, ascending."""
        return self._sorted

    @property
    def credit(self) -> float:
        """Steps that might have been escalated and were not, with the one that comes."""
        return self.share * (self.steps + 1) - self._escalated

    def begin_with(self, scores: Sequence[float]) -> None:
        """Compare the first steps with scores measured before; newer ones push them out."""
        for score in scores:
            self._remember(score)

    def now(self) -> float | None:
        """The threshold for the next step; None before the first score.

        At a share of 0 or 1 there is one from the first step on: no score may decide there.
        """
        credit = self.credit
        beyond = math.copysign(max(0.0, abs(credit) - _LET_BE), credit)
        wanted = self.share + beyond / _GAIN
        if not 0 < wanted < 1:
            return math.inf if wanted <= 0 else -math.inf
        if not self._sorted:
            return None
        return self._sorted[min(int((1 - wanted) * len(self._sorted)), len(self._sorted) - 1)]

    def exceeds(self, score: float, threshold: float) -> bool:
        """Whether a step with this score is escalated; scores that are all alike take turns."""
        if score == threshold:
            return self.credit >= 1
        return score > threshold

    def add(self, score: float, *, escalated: bool) -> None:
        """A step was decided."""
        self._remember(score)
        self.steps += 1
        self._escalated += escalated

    def _remember(self, score: float) -> None:
        if len(self._latest) == _WINDOW:
            del self._sorted[bisect_left(self._sorted, self._latest[0])]
        self._latest.append(score)
        insort(self._sorted, score)


def quantiles(scores: Sequence[float]) -> list[float]:
    """Few scores that stand for many, ascending; the ends are among them."""
    ascending = sorted(scores)
    last = len(ascending) - 1
    return [ascending[round(last * i / (_KEPT - 1))] for i in range(_KEPT)]


class BudgetRouter(Router):
    """`inner`, with a threshold that follows the scores and escalates about `share` of the steps.

    What it has learnt of the scores outlives an episode, and copies share it. Raises `UserError`
    for a share outside 0 to 1, and for a router that has no score.
    """

    inner: Router

    def __init__(self, inner: Router, share: float) -> None:
        if isinstance(inner, BudgetRouter):
            inner = inner.inner
        self.spec = RouterSpec(BUDGET, f"{share:g}:{inner.spec}")
        if not 0 <= share <= 1:
            raise UserError(f"router {self.spec}: the budget is a share between 0 and 1")
        if not inner.score:
            raise UserError(
                f"router {inner.spec} compares no score, so it cannot keep a budget; entropy, "
                "margin, draft and onnx can"
            )
        self.inner = inner
        self.decide_at = inner.decide_at
        self.chained = inner.chained
        self.score = inner.score
        self.running = RunningThreshold(share)
        self.dial = _measured_dial(inner, share)  # at which `inner` is asked
        self._highest = 0

    def __copy__(self) -> BudgetRouter:
        """For another conversation: a state of its own, and the same scores."""
        other = BudgetRouter(copy.copy(self.inner), self.running.share)
        other.running, other._highest = self.running, self._highest
        return other

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        """As `inner`."""
        self.inner.reset(tiers, seed)
        self._highest = len(tiers) - 1

    def decide(self, features: Features) -> Decision:
        """What `inner` says, with the threshold that keeps the budget."""
        given = self.inner.decide(self._at_dial(features))
        score, threshold = given.score, self.running.now()
        assert score is not None, "a router with a score tells it"
        if threshold is None:  # the first score of all: the router's own threshold
            decision, escalated = given, given.tier > 0
        else:
            escalated = self.running.exceeds(score, threshold)
            decision = self._decided(given, score, threshold, escalated)
        self.running.add(score, escalated=escalated)
        return decision

    def _decided(
        self, given: Decision, score: float, threshold: float, escalated: bool
    ) -> Decision:
        first = given.thresholds[0] if given.thresholds else 0.0
        moved: tuple[float, ...] = (threshold,)
        if len(given.thresholds) > 1 and first > 0 and 0 < threshold < math.inf:
            moved = tuple(t * threshold / first for t in given.thresholds)
            tier = max(1, sum(score >= t for t in moved))
        else:
            tier = given.tier or self._highest
        sign = ">=" if escalated else "<="
        compared = f" {sign} {threshold:.3g}" if math.isfinite(threshold) else ""
        reason = f"doubt {score:.3g}{compared} (budget {self.running.share:.0%})"
        shown = tuple(t for t in moved if math.isfinite(t))
        chosen = min(tier, self._highest) if escalated else 0
        return replace(given, tier=chosen, reason=reason, thresholds=shown)

    def _at_dial(self, features: Features) -> Features:
        """The features with the dial at which a trained router was measured to keep the share.

        The user's dial and a budget exclude each other.
        """
        vector = features.vector.copy()
        vector[_DIAL] = self.dial
        return replace(features, vector=vector)


def _measured_dial(inner: Router, share: float) -> float:
    try:
        return inner.dial_for(share)
    except UserError:
        return NEUTRAL


def parse_budget(spec: RouterSpec) -> tuple[float, RouterSpec]:
    """The share and the router in "budget:0.2:entropy:0.5". Raises `UserError`."""
    share, colon, inner = (spec.argument or "").partition(":")
    try:
        number = float(share)
    except ValueError:
        number = math.nan
    if not colon or not inner or math.isnan(number):
        raise UserError(
            f"router {spec}: write a share and a router, for example budget:0.2:draft:0.5"
        )
    return number, RouterSpec.parse(inner)
