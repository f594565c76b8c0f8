"""Routers that need no training: the ends of the scale, chance, and one threshold on uncertainty.

A trained router has to beat these at the same cost, so all of them are on the
command line beside it. Ladders of one tier are served too: everything then
goes to that tier.

Thresholds on ladders of more than two tiers: the dearest tier is chosen where
the threshold as given is met, tier i of n-1 where the threshold moved i/(n-1)
of the way from certainty to it is met. With three tiers `entropy:0.8` takes the
middle tier from 0.4 nats and the dearest from 0.8; `margin:0.2` takes the
middle tier below 0.6 and the dearest below 0.2.
"""

from __future__ import annotations

import math
import random

from edge_router.errors import UserError
from edge_router.router.base import Decision, Features
from edge_router.router.feature_table import DecideAt


class _Baseline:
    """A router that remembers the ladder it was given."""

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self.tiers: tuple[str, ...] = ()

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        self.tiers = tiers

    @property
    def dearest(self) -> int:
        return len(self.tiers) - 1


class LowRouter(_Baseline):
    """Always the cheapest tier."""

    def __init__(self) -> None:
        super().__init__("low")

    def decide(self, features: Features) -> Decision:
        return Decision(0, "always the cheapest")


class HighRouter(_Baseline):
    """Always the dearest tier."""

    def __init__(self) -> None:
        super().__init__("high")

    def decide(self, features: Features) -> Decision:
        return Decision(self.dearest, "always the dearest")


class TierRouter(_Baseline):
    """Always the tier of that name; `reset` raises UserError when the ladder has none."""

    def __init__(self, name: str) -> None:
        super().__init__(f"tier:{name}")
        self.name = name

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        if self.name not in tiers:
            raise UserError(
                f"router {self.spec}: the ladder has no tier {self.name!r}; "
                f"its tiers are {', '.join(tiers)}"
            )
        super().reset(tiers, seed)

    def decide(self, features: Features) -> Decision:
        return Decision(self.tiers.index(self.name), f"always {self.name}")


class RandomRouter(_Baseline):
    """The dearest tier with probability P, else the cheapest; tiers between are never chosen.

    The draws of an episode depend on `seed` alone and have nothing in common
    with draws that others make with the same seed. Raises UserError unless 0 <= P <= 1.
    """

    def __init__(self, probability: float) -> None:
        super().__init__(f"random:{probability}")
        self.probability = _between_0_and_1(probability, f"router {self.spec}: the probability")
        self._random = random.Random(0)

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        super().reset(tiers, seed)
        self._random = random.Random(f"edge-router/random/{seed}")

    def decide(self, features: Features) -> Decision:
        drawn = self._random.random()
        dear = drawn < self.probability
        reason = f"drawn {drawn:.2f} {'<' if dear else '>='} {self.probability:.2f}"
        return Decision(self.dearest if dear else 0, reason, self.probability)


class RetryRouter(_Baseline):
    """The cheapest tier; after a refused command the dearest writes the next step."""

    def __init__(self) -> None:
        super().__init__("retry")

    def decide(self, features: Features) -> Decision:
        refused = features["last_refused"] > 0
        reason = "the last command was refused" if refused else "nothing was refused"
        return Decision(self.dearest if refused else 0, reason)


class DraftRouter(_Baseline):
    """The dearest tier writes again what the cheapest wrote with a token less probable than P.

    Decides at the draft. Raises UserError unless 0 <= P <= 1.
    """

    decide_at: DecideAt = "draft"

    def __init__(self, probability: float) -> None:
        super().__init__(f"draft:{probability}")
        self.probability = _between_0_and_1(probability, f"router {self.spec}: the probability")

    def decide(self, features: Features) -> Decision:
        least = features["draft_min_p"]
        unsure = least < self.probability
        reason = f"least sure token {least:.2f} {'<' if unsure else '>='} {self.probability:.2f}"
        return Decision(self.dearest if unsure else 0, reason)


class EntropyRouter(_Baseline):
    """The dearest tier when the entropy (nats) is at least T; see above for more than two tiers.

    Raises UserError unless T is finite and at least 0. T = 0 is always the dearest.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__(f"entropy:{threshold}")
        if not 0 <= threshold < math.inf:
            raise UserError(
                f"router {self.spec}: the entropy must be 0 nats or more, for example entropy:0.8"
            )
        self.threshold = threshold

    def decide(self, features: Features) -> Decision:
        entropy = features["entropy"]
        thresholds = [self.threshold * share for share in _shares(self.dearest)]
        tier = sum(entropy >= threshold for threshold in thresholds)
        reason = _reason("entropy", entropy, ">=", "<", thresholds, tier)
        return Decision(tier, reason, score=entropy, thresholds=tuple(thresholds))


class MarginRouter(_Baseline):
    """The dearest tier when p1 - p2 is below T; see above for more than two tiers.

    Raises UserError unless 0 <= T <= 1. T = 0 never takes the dearest.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__(f"margin:{threshold}")
        self.threshold = _between_0_and_1(threshold, f"router {self.spec}: the margin")

    def decide(self, features: Features) -> Decision:
        margin = features["margin"]
        thresholds = [self.threshold * share + (1 - share) for share in _shares(self.dearest)]
        tier = sum(margin < threshold for threshold in thresholds)
        reason = _reason("margin", margin, "<", ">=", thresholds, tier)
        return Decision(
            tier,
            reason,
            score=1 - margin,
            thresholds=tuple(1 - threshold for threshold in thresholds),
        )


def _shares(dearest: int) -> list[float]:
    """How far towards the threshold each tier above the cheapest begins; the last is 1."""
    return [i / dearest for i in range(1, dearest + 1)]


def _reason(
    name: str, value: float, met: str, missed: str, thresholds: list[float], tier: int
) -> str:
    """The comparison that decided: the last threshold met, or the first one missed.

    Two decimals, more where two would make it read wrong ("1.00 < 1.00").
    """
    if not thresholds:
        return f"{name} {value:.2f}, only one tier"
    threshold, sign = (thresholds[tier - 1], met) if tier else (thresholds[0], missed)
    digits = 2
    while digits < 9 and not _tells(value, threshold, digits):
        digits += 1
    return f"{name} {value:.{digits}f} {sign} {threshold:.{digits}f}"


def _tells(value: float, threshold: float, digits: int) -> bool:
    """Whether so many digits show the threshold to a twentieth, and which number is larger."""
    shown = f"{threshold:.{digits}f}"
    differ = value == threshold or f"{value:.{digits}f}" != shown
    return differ and abs(float(shown) - threshold) <= threshold / 20


def _between_0_and_1(value: float, what: str) -> float:
    if not 0 <= value <= 1:
        raise UserError(f"{what} must be between 0 and 1")
    return value
