"""Which tier a step needed, seen from behind, in three ways.

    kl       the lowest tier with KL(high || it) below tau, tau a quantile over the steps
    action   the lowest tier that gives the high one's action
    oracle   the tier with which the fewest escalations still win, where a win is known

A label is the index of a tier; UNLABELLED rows take no part in training.

The fewest escalations that still win a game are found by a search; no router can do better. It
goes through the rollout tree in the order of cost, where a step costs what
its tier weighs (0 the low tier, 1 the high one). Exact where every history of
less cost is known to lose; where the search meets unknown histories or
ends early it gives bounds: no win costs less than `at_least`, and `best` is
the least-cost one known.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from train.router.forest import UNKNOWN, Forest, Ints
from train.router.node import Node

Follow = Callable[[Node, int], Node | None]


@dataclass(frozen=True)
class Oracle:
    """What a search found. `best` is infinite where no win is known."""

    best: float
    at_least: float
    path: tuple[tuple[bytes, int], ...]  # (history, tier) along the least-cost win known
    visited: int

    @property
    def exact(self) -> bool:
        return self.best <= self.at_least


def tier_weights(n: int) -> tuple[float, ...]:
    """A step's cost by its tier when nothing was measured: 0 the low tier, 1 the high one."""
    return tuple(i / max(1, n - 1) for i in range(n))


def search(
    root: Node, follow: Follow, weights: Sequence[float], budget: float = math.inf
) -> Oracle:
    """Search from `root`; `follow` gives the next history, or None where it is not known.

    At most `budget` histories are visited. Of histories that cost the same, the longest is
    followed first, so that wins of little cost are found before much has been explored.
    """
    # The heap holds branches that nobody has followed yet: cost so far, then depth (deepest
    # first), then the order of arrival, so that histories themselves are never compared.
    order = count()
    heap: list[tuple[float, int, int, Node | None, int]] = [(0.0, 0, next(order), None, 0)]
    came: dict[bytes, tuple[Node, int]] = {}
    seen: set[bytes] = set()
    unknown = math.inf
    visited = 0
    while heap:
        # The branch of least cost. Whatever else wins costs at least as much.
        cost, _, _, before, tier = heapq.heappop(heap)
        if visited >= budget:
            return Oracle(math.inf, min(cost, unknown), (), visited)
        # Where the tree ends here, a win may lie beyond: the bound cannot rise above this cost.
        node = root if before is None else follow(before, tier)
        if node is None:
            unknown = min(unknown, cost)
            continue
        if node.key in seen:
            continue
        seen.add(node.key)
        visited += 1
        # Reached for the first time, hence by a way of least cost.
        if before is not None:
            came[node.key] = (before, tier)
        if node.won:
            return Oracle(cost, min(cost, unknown), _road(node, came), visited)
        for choice in distinct_tiers(node):
            step = (cost + weights[choice], -node.step - 1, next(order), node, choice)
            heapq.heappush(heap, step)
    return Oracle(math.inf, unknown, (), visited)


def distinct_tiers(node: Node) -> list[int]:
    """The lowest tier of each text that can follow."""
    first: dict[tuple[int, ...], int] = {}
    for tier, writing in enumerate(node.writings):
        first.setdefault(writing.tokens, tier)
    return list(first.values())


def _road(node: Node, came: dict[bytes, tuple[Node, int]]) -> tuple[tuple[bytes, int], ...]:
    road = []
    while node.key in came:
        node, tier = came[node.key]
        road.append((node.key, tier))
    return tuple(road[::-1])


# -- labels ---------------------------------------------------------------------------------------

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
