"""What can be asked of an explorer: whole plans for a game, or single unknown histories."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from train.router.forest import Forest, walk
from train.router.node import Node
from train.router.oracle import search, tier_weights
from train.router.policies import RouterPolicy
from train.router.tree import Explorer


@dataclass(frozen=True)
class ExplorePlan:
    """How the tree of a game is explored before anything is trained.

    Every tier plays it alone. Where all of them win there is little to learn and that is all.
    Else routers play that escalate at random with each of the probabilities in
    `random`, and the oracle searches through at most `search` histories, a third of it where
    nobody has won yet.
    """

    random: tuple[float, ...] = (0.1, 0.3, 0.5)
    search: int = 150
    seed: int = 0

    @property
    def what(self) -> str:
        """The plan's name in the store."""
        chances = ",".join(f"{p:g}" for p in self.random)
        return f"plan 2 random={chances} search={self.search} seed={self.seed}"


@dataclass(frozen=True)
class Wanted:
    """Unknown histories: after each (history, tier), and on from there with the low tier.

    A walk that has just left the known tree mostly stays with the low tier, and going on
    at once costs several times less than coming back for each step.
    """

    steps: tuple[tuple[bytes, int], ...]
    onward: bool = True


@dataclass(frozen=True)
class Played:
    """What routers make of a game: (spec, dial) for each, with the tiers' names."""

    routers: tuple[tuple[RouterSpec, float], ...]
    tiers: tuple[str, ...]


Job = ExplorePlan | Wanted | Played


def run(explorer: Explorer, job: Job) -> list[Node]:
    """Do a job; returns the histories that are new."""
    if isinstance(job, ExplorePlan):
        _explore(explorer, job)
    elif isinstance(job, Played):
        _play_routers(explorer, job)
    else:
        for key, tier in job.steps:
            node = explorer.child(explorer.tree.nodes[key], tier)
            while job.onward and not node.done:
                node = explorer.child(node, 0)
    return explorer.taken()


def _explore(explorer: Explorer, plan: ExplorePlan) -> None:
    n = len(explorer.root.writings)
    won = [_play(explorer, lambda tier=tier: tier) for tier in range(n)]  # type: ignore[misc]
    if all(won) or n == 1:
        return
    for chance in plan.random:
        rng = random.Random(f"{plan.seed} {explorer.tree.game.key} {chance}")
        draw = partial(_draw, rng, chance, n)
        won.append(_play(explorer, draw))
    budget = plan.search if any(won) else plan.search // 3
    search(explorer.root, explorer.child, tier_weights(n), budget)


def _draw(rng: random.Random, chance: float, tiers: int) -> int:
    return rng.randint(1, tiers - 1) if rng.random() < chance else 0


def _play(explorer: Explorer, choose: Callable[[], int]) -> bool:
    """Play to the end; whether the game was won."""
    node = explorer.root
    while not node.done:
        node = explorer.child(node, choose())
    return node.won


def _play_routers(explorer: Explorer, job: Played) -> None:
    forest = Forest(len(job.tiers))
    root = explorer.root
    game = forest.add_tree(explorer.tree)
    games = np.array([game])

    def expand(pairs: Sequence[tuple[int, int]]) -> None:
        for row, tier in pairs:
            forest.add(game, [explorer.child(forest.nodes[row], tier)])

    if root.done:
        return
    for spec, dial in job.routers:
        policy = RouterPolicy(partial(make_router, spec), job.tiers, forest)
        walk(forest, games, policy, dials=dial, expand=expand)
