"""Games made by hand whose best play is known, as rollout trees.

Every game has LENGTH steps. Some are sensitive, and the features say so: where
the low tier writes a sensitive step the game is lost, whatever follows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

import numpy as np

from edge_router.router.feature_table import ALL_NAMES, column
from edge_router.tasks.protocol import Game
from train.router.forest import Forest, Ints
from train.router.node import Node, Writing, child_key, root_key
from train.router.tree import GameTree

LENGTH = 4
CALM, DOUBTFUL = 0.001, 0.5  # entropy before a step that is not sensitive, and one that is


@dataclass(frozen=True)
class ToyGame:
    """`sensitive` are the steps at which the low tier loses."""

    key: str
    sensitive: tuple[bool, ...]
    kind: str = "toy"
    task: str = "alfworld"

    def open(self) -> Game:
        raise NotImplementedError("toy games are known from end to end")


def toy_tree(game: ToyGame, tiers: int = 2) -> GameTree:
    """All histories of a game; tier t writes the token t."""
    tree = GameTree(game)
    for step in range(len(game.sensitive) + 1):
        tree.add(_node(game, choices, tiers) for choices in product(range(tiers), repeat=step))
    return tree


def _node(game: ToyGame, choices: tuple[int, ...], tiers: int) -> Node:
    key = root_key(game.key)
    parent: bytes | None = None
    for choice in choices:
        parent, key = key, child_key(key, (choice,))
    step = len(choices)
    done = step == len(game.sensitive)
    lost = any(s and c == 0 for s, c in zip(game.sensitive, choices, strict=False))
    return Node(
        key=key,
        parent=parent,
        tier=choices[-1] if choices else 0,
        step=step,
        reply="",
        refused=False,
        done=done,
        won=done and not lost,
        prompt_tokens=10 * (step + 1),
        features=_features(game.sensitive[step] if not done else False, step),
        writings=() if done else tuple(_writing(t, game.sensitive[step]) for t in range(tiers)),
    )


def _features(sensitive: bool, step: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    features = np.zeros(len(ALL_NAMES), np.float32)
    features[column("entropy")] = DOUBTFUL if sensitive else CALM
    features[column("step")] = step / LENGTH
    return features


def _writing(tier: int, sensitive: bool) -> Writing:
    kl = 1.0 if sensitive and tier == 0 else 0.0
    return Writing(f"text {tier}", (tier,), f"action {tier}", 0.9, 0.1, 5, kl, kl / 5, kl)


def toy_forest(count: int = 24, tiers: int = 2, seed: int = 0) -> tuple[Forest, Ints]:
    """Games with one sensitive step in four, on average."""
    rng, forest = random.Random(seed), Forest(tiers)
    for index in range(count):
        sensitive = tuple(rng.random() < 0.25 for _ in range(LENGTH))
        forest.add_tree(toy_tree(ToyGame(f"toy/{index}", sensitive), tiers))
    return forest, np.arange(count)


def sensitive_share(forest: Forest) -> float:
    """Escalation rate of a router that is right everywhere."""
    games = [tree.game for tree in forest.trees]
    marked = [s for game in games if isinstance(game, ToyGame) for s in game.sensitive]
    return sum(marked) / len(marked)
