"""How far an answer is from the high tier's, and how much of that a router leaves.

An answer's divergence is the KL of the tier from the high tier, summed along the high tier's
answer; where either of them calls functions it is nothing for the same calls and infinite for
others. What a router is judged by is the share of the low tier's divergence that its choices
leave. One answer counts for at most CAP, the 95th percentile of the training prompts, so that a
few that go wild do not decide alone; one with other calls counts for as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.router import labels
from train.router.forest import Floats, Forest, Ints, Policy, Walks, walk
from train.router.front import DIALS, Point
from train.router.network import NetPolicy, RouterNet
from train.router.prompts.reading import CALLS

_PERCENTILE = 95
SAME = 1e-6  # nats; below it an answer is the high tier's but for rounding

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


def call_rows(forest: Forest) -> Flags:
    """(rows,): whether a tier calls functions there."""
    called = (any(w.action.startswith(CALLS) for w in node.writings) for node in forest.nodes)
    return np.fromiter(called, bool, forest.size)


def divergences(forest: Forest, measure: str = "sum") -> Floats:
    """(rows, tiers): the KL, or 0 and infinity where functions are called."""
    found = labels.divergence(forest, measure).copy()
    rows = np.flatnonzero(call_rows(forest))
    same = forest.action[rows] == forest.action[rows, -1:]
    found[rows] = np.where(same, 0.0, np.inf)
    return found


@dataclass(frozen=True)
class Judge:
    """What every choice in a forest leaves. A row is a step, as everywhere.

    `loss` and `same` are (rows, tiers): how far the answer is from the high tier's, at most
    `cap`, and whether it comes to the same. `calls` (rows,) are the steps with calls.
    """

    forest: Forest
    divergences: Floats
    loss: Doubles
    same: Flags
    calls: Flags
    cap: float

    @classmethod
    def of(cls, forest: Forest, games: Ints) -> Judge:
        """The judge of all rows; its cap is taken on `games` (games,)."""
        found, used = divergences(forest), forest.size
        theirs = found[np.isin(forest.game[:used], games) & ~forest.done[:used], 0]
        positive = theirs[np.isfinite(theirs) & (theirs > SAME)]
        cap = float(np.percentile(positive, _PERCENTILE)) if positive.size else 1.0
        loss = np.minimum(found.astype(np.float64), cap)
        same = forest.action[:used] == forest.action[:used, -1:]
        return cls(forest, found, loss, same, call_rows(forest), cap)

    def left(self, walks: Walks) -> tuple[Doubles, Doubles]:
        """(episodes,) each: what the walks' choices leave, and what the low tier alone would."""
        return self.total(self.loss, walks), self.total(self.loss[:, :1], walks, low=True)

    def total(self, values: NDArray[np.generic], walks: Walks, *, low: bool = False) -> Doubles:
        """(episodes,): the sum of values[row, tier] over each walk's steps."""
        tiers = np.zeros_like(walks.tiers) if low else walks.tiers
        each = values[np.maximum(walks.rows, 0), tiers].astype(np.float64)
        return np.asarray((each * walks.taken).sum(0))

    def point(self, games: Ints, policy: Policy, dial: float) -> Point:
        """A policy on prompts (games,); its success is the share of the divergence taken away."""
        walks = walk(self.forest, games, policy, dials=dial)
        ours, low = self.left(walks)
        removed = 1.0 - ours.sum() / low.sum() if low.sum() else 0.0
        steps = int(walks.taken.sum())
        share = float(((walks.tiers > 0) & walks.taken).sum() / steps)
        return Point(dial, share, float(removed), steps / max(1, len(games)))

    def front(self, games: Ints, net: RouterNet, dials: Sequence[float] = DIALS) -> list[Point]:
        """A network's points at several dials."""
        return [self.point(games, NetPolicy(net), dial) for dial in dials]
