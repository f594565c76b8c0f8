"""Routers that need no training: the ends of the ladder, chance, and one threshold on a score.

A trained router has to beat these at the same cost, so all of them are on the
command line beside it. Ladders of one tier are served too: everything then
goes to that tier.

Thresholds on ladders of more than two tiers: the high tier is chosen where the
threshold as given is met, tier i of n-1 where the threshold moved i/(n-1) of
the way from certainty to it is met. With three tiers `entropy:0.8` takes the
middle tier from 0.4 nats and the high tier from 0.8; `margin:0.2` takes the
middle tier below 0.6 and the high tier below 0.2.

The dial moves the thresholds of entropy and margin, see `turned`.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

from edge_router.errors import UserError
from edge_router.router.base import Decision, Features, Router
from edge_router.router.feature_table import DecideAt
from edge_router.router.spec import RouterSpec

NEUTRAL = 0.5  # the dial's setting that leaves a threshold as it was given


class _Rule(Router):
    """A router that remembers the ladder it was given."""

    def __init__(self, kind: str, argument: object = None) -> None:
        self.spec = RouterSpec(kind, None if argument is None else str(argument))
        self.tiers: tuple[str, ...] = ()

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        self.tiers = tiers

    @property
    def highest(self) -> int:
        return len(self.tiers) - 1


class LowRouter(_Rule):
    """Always the low tier."""

    def __init__(self) -> None:
        super().__init__("low")

    def decide(self, features: Features) -> Decision:
        return Decision(0, "always the low tier")


class HighRouter(_Rule):
    """Always the high tier."""

    def __init__(self) -> None:
        super().__init__("high")

    def decide(self, features: Features) -> Decision:
        return Decision(self.highest, "always the high tier")


class VerifyRouter(_Rule):
    """The high tier verifies every step, drafted by the low tier: the high tier's own output.

    Speculative decoding. `chunk` tokens are drafted at a time; None drafts the whole step first.
    Raises UserError unless `chunk` is at least 1.
    """

    def __init__(self, chunk: int | None = None) -> None:
        super().__init__("verify", chunk)
        if chunk is not None and chunk < 1:
            raise UserError(f"router {self.spec}: a draft has at least 1 token, for example 8")
        self.chunk = chunk or 0
        self.decide_at = "prompt" if chunk else "draft"

    def decide(self, features: Features) -> Decision:
        return Decision(self.highest, "every step is verified")


class ChainRouter(_Rule):
    """Every tier verifies every step, in turn: each what the tier below it made of the draft.

    The text is the high tier's own, as with `VerifyRouter`, which it is on two tiers.
    """

    decide_at: DecideAt = "draft"
    chained = True

    def __init__(self) -> None:
        super().__init__("chain")

    def decide(self, features: Features) -> Decision:
        return Decision(self.highest, "every step is verified by every tier")


class TierRouter(_Rule):
    """Always the tier of that name; `reset` raises UserError when the ladder has none."""

    def __init__(self, name: str) -> None:
        super().__init__("tier", name)
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


class RandomRouter(_Rule):
    """The high tier with probability P, else the low one; tiers between are never chosen.

    The draws of an episode depend on `seed` alone and have nothing in common
    with draws that others make with the same seed. Raises UserError unless 0 <= P <= 1.
    """

    def __init__(self, probability: float) -> None:
        super().__init__("random", probability)
        self.probability = _between_0_and_1(probability, f"router {self.spec}: the probability")
        self._random = random.Random(0)

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        super().reset(tiers, seed)
        self._random = random.Random(f"edge-router/random/{seed}")

    def decide(self, features: Features) -> Decision:
        drawn = self._random.random()
        escalates = drawn < self.probability
        reason = f"drawn {drawn:.2f} {'<' if escalates else '>='} {self.probability:.2f}"
        return Decision(self.highest if escalates else 0, reason, self.probability)


class RetryRouter(_Rule):
    """The low tier; after a refused command the high tier writes the next step."""

    def __init__(self) -> None:
        super().__init__("retry")

    def decide(self, features: Features) -> Decision:
        refused = features["last_refused"] > 0
        reason = "the last command was refused" if refused else "nothing was refused"
        return Decision(self.highest if refused else 0, reason)


class DraftRouter(_Rule):
    """The high tier verifies what the low tier drafted with a token less probable than P.

    Decides at the draft. Raises UserError unless 0 <= P <= 1.
    """

    decide_at: DecideAt = "draft"
    score = "draft_min_p"

    def __init__(self, probability: float) -> None:
        super().__init__("draft", probability)
        self.probability = _between_0_and_1(probability, f"router {self.spec}: the probability")

    def decide(self, features: Features) -> Decision:
        least = features["draft_min_p"]
        unsure = least < self.probability
        reason = f"least sure token {least:.2f} {'<' if unsure else '>='} {self.probability:.2f}"
        return Decision(
            self.highest if unsure else 0,
            reason,
            score=1 - least,
            thresholds=(1 - self.probability,),
        )


class EntropyRouter(_Rule):
    """The high tier when the entropy (nats) is at least T; see above for more than two tiers.

    Raises UserError unless T is finite and at least 0. T = 0 is always the high tier.
    """

    score = "entropy"
    heeds_dial = True

    def __init__(self, threshold: float) -> None:
        super().__init__("entropy", threshold)
        if not 0 <= threshold < math.inf:
            raise UserError(
                f"router {self.spec}: the entropy must be 0 nats or more, for example entropy:0.8"
            )
        self.threshold = threshold

    def decide(self, features: Features) -> Decision:
        entropy = features["entropy"]
        thresholds = [self.threshold * share for share in _shares(self.highest)]
        tier = sum(entropy >= threshold for threshold in thresholds)
        reason = _reason("entropy", entropy, ">=", "<", thresholds, tier)
        given = Decision(tier, reason, score=entropy, thresholds=tuple(thresholds))
        return turned(given, features["dial"])


class MarginRouter(_Rule):
    """The high tier when p1 - p2 is below T; see above for more than two tiers.

    Raises UserError unless 0 <= T <= 1. T = 0 never takes the high tier.
    """

    score = "margin"
    heeds_dial = True

    def __init__(self, threshold: float) -> None:
        super().__init__("margin", threshold)
        self.threshold = _between_0_and_1(threshold, f"router {self.spec}: the margin")

    def decide(self, features: Features) -> Decision:
        margin = features["margin"]
        thresholds = [self.threshold * share + (1 - share) for share in _shares(self.highest)]
        tier = sum(margin < threshold for threshold in thresholds)
        reason = _reason("margin", margin, "<", ">=", thresholds, tier)
        given = Decision(
            tier,
            reason,
            score=1 - margin,
            thresholds=tuple(1 - threshold for threshold in thresholds),
        )
        return turned(given, features["dial"])


def turned(decision: Decision, dial: float) -> Decision:
    """The decision with its thresholds moved by the dial (0 to 1).

    A threshold becomes T * (1 - dial) / dial: T at 0.5, nothing at 1 (always the high tier), and
    out of reach at 0 (always the low tier).
    """
    if dial == NEUTRAL or decision.score is None or not decision.thresholds:
        return decision
    factor = (1 - dial) / dial if dial > 0 else math.inf
    # A threshold of 0 always takes the high tier; at dial 0 even that one gives way.
    thresholds = tuple(t * factor if t or dial > 0 else math.inf for t in decision.thresholds)
    tier = sum(decision.score >= threshold for threshold in thresholds)
    limit = thresholds[max(tier - 1, 0)]
    reason = f"doubt {decision.score:.4f} {'>=' if tier else '<'} {limit:.4f} (dial {dial:.2f})"
    return replace(decision, tier=tier, reason=reason, thresholds=thresholds)


def _shares(highest: int) -> list[float]:
    """How far towards the threshold each tier above the low one begins; the last is 1."""
    return [i / highest for i in range(1, highest + 1)]


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
