"""Which tier a step needed, seen from behind, in three ways.

    kl       the lowest tier with KL(high || it) below tau, tau a quantile over the steps
    action   the lowest tier that gives the high one's action
    oracle   the tier with which the fewest escalations still win, where a win is known

A label is the index of a tier; UNLABELLED rows take no part in training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from train.router.forest import UNKNOWN, Forest, Ints
from train.router.oracle import tier_weights

UNLABELLED = -1
MEASURES = ("sum", "mean", "max")


def divergence(forest: Forest, measure: str = "sum") -> NDArray[np.float32]:
    """(rows, tiers): KL(high || tier) along the high tier's step, in nats."""
    return forest.kl[: forest.size, :, MEASURES.index(measure)]


def by_kl(divergences: NDArray[np.float32], tau: NDArray[np.float64] | float) -> Ints:
    """The lowest tier below tau (a number, or one for each row); the high one always is."""
    fine = divergences < np.asarray(tau)[..., None]
    fine[:, -1] = True
    return np.asarray(fine.argmax(1), np.int64)


def by_action(forest: Forest) -> Ints:
    """(rows,): the lowest tier that gives the high tier's action."""
    return forest.action[: forest.size, -1].copy()


def to_win(forest: Forest) -> NDArray[np.float64]:
    """(rows,): cost of the least-cost win known from a history; infinite where none is known."""
    n = forest.size
    cost = np.where(forest.won[:n], 0.0, np.inf)
    weights = np.array(tier_weights(forest.tiers))
    # From the last step back: a history's cost is its best child's plus the step to it.
    for step in range(int(forest.step[:n].max(initial=0)), -1, -1):
        rows = np.flatnonzero((forest.step[:n] == step) & ~forest.done[:n])
        if len(rows):
            cost[rows] = _onward(forest, rows, cost, weights).min(1)
    return cost


def by_oracle(forest: Forest) -> Ints:
    """(rows,): the lowest tier of a least-cost win known; UNLABELLED where no win is known."""
    n, cost = forest.size, to_win(forest)
    onward = _onward(forest, np.arange(n), cost, np.array(tier_weights(forest.tiers)))
    label = onward.argmin(1)
    return np.asarray(np.where(np.isfinite(onward.min(1)), label, UNLABELLED), np.int64)


def _onward(
    forest: Forest, rows: Ints, cost: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(len(rows), tiers): cost of the best known win that begins with each tier's step."""
    child = forest.child[rows]
    return np.asarray(np.where(child == UNKNOWN, np.inf, cost[child] + weights))
