"""How good a router is at every escalation rate, as points and as one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.router.forest import Expand, Forest, Ints, Policy, walk
from train.router.network import NetPolicy, RouterNet

DIALS = (0.0, 0.25, 0.5, 0.75, 1.0)
FINE_DIALS = tuple(i / 10 for i in range(11))
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Point:
    """One policy on a set of games."""

    dial: float
    share: float  # escalation rate: of all steps, how many the low tier did not write
    success: float
    steps: float  # a game
    missed: int = 0  # games lost that the policy it is held against has won


def point(
    forest: Forest,
    games: Ints,
    policy: Policy,
    dial: float,
    expand: Expand | None = None,
    held: NDArray[np.bool_] | None = None,
) -> Point:
    """Play the games once; `held` (games,) says which of them another policy has won."""
    walks = walk(forest, games, policy, dials=dial, expand=expand)
    escalated = ((walks.tiers > 0) & walks.taken).sum()
    steps = walks.taken.sum()
    return Point(
        dial=dial,
        share=float(escalated / max(1, steps)),
        success=float(walks.won.mean()),
        steps=float(steps / max(1, len(games))),
        missed=0 if held is None else int((held & ~walks.won).sum()),
    )


def front(
    forest: Forest,
    games: Ints,
    net: RouterNet,
    dials: Sequence[float] = DIALS,
    expand: Expand | None = None,
    held: NDArray[np.bool_] | None = None,
) -> list[Point]:
    """A network's points on `games` (games,) at several dials, decided greedily as in play.

    `held` (games,) says which of them another policy has won.
    """
    return [point(forest, games, NetPolicy(net), dial, expand, held) for dial in dials]


def score(points: Sequence[Point], low: float) -> float:
    """Mean success over SHARES, where a share allows the best point that keeps within it.

    `low` is the success of the low tier alone, which costs nothing. Between two points
    success is taken as linear in the share: a user could toss a coin between them.
    """
    # The upper hull of the points, the low tier among them at share 0 (Andrew's monotone chain).
    known = sorted([(0.0, low)] + [(p.share, p.success) for p in points])
    hull: list[tuple[float, float]] = []
    for at in known:
        while len(hull) >= 2 and _below(hull[-2], hull[-1], at):
            hull.pop()
        hull.append(at)
    # A larger share is never worse: of the hull only the rising part counts.
    best = [at for i, at in enumerate(hull) if i == 0 or at[1] > max(h[1] for h in hull[:i])]
    shares, successes = zip(*best, strict=True)
    return float(np.mean(np.interp(SHARES, shares, successes)))


def _below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or under the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])
