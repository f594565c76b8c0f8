"""Policies for walks through a forest: any `Router` of the library, chance, or a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from edge_router.router.base import Features, Router
from edge_router.router.feature_table import SCHEMA, names_at
from train.router.forest import Floats, Forest, Ints


class RouterPolicy:
    """One router an episode, so that each keeps its own state; `make` builds one.

    An episode is seeded with its game's key, so that chance differs between games.
    """

    def __init__(self, make: Callable[[], Router], tiers: Sequence[str], forest: Forest) -> None:
        self._make, self._tiers, self._forest = make, tuple(tiers), forest
        self._routers: list[Router] = []

    def reset(self, games: Ints) -> None:
        """Begin an episode of each of `games` (episodes,)."""
        while len(self._routers) < len(games):
            self._routers.append(self._make())
        for router, game in zip(self._routers, games, strict=False):
            router.reset(self._tiers, crc32(self._forest.trees[game].game.key.encode()))

    def choose(self, features: Floats, episodes: Ints, rows: Ints) -> Ints:
        """Tiers (n,) for features (n, len(ALL_NAMES)) of the episodes numbered `episodes` (n,)."""
        chosen = np.zeros(len(rows), np.int64)
        for i, (vector, episode) in enumerate(zip(features, episodes, strict=True)):
            router = self._routers[episode]
            names = names_at(router.decide_at)
            chosen[i] = router.decide(Features(SCHEMA, names, vector[: len(names)])).tier
        return chosen


class ChancePolicy:
    """Escalates, to any higher tier, with each episode's own probability (episodes,)."""

    def __init__(self, chances: NDArray[np.float64], tiers: int, seed: Sequence[int]) -> None:
        self._chances, self._tiers = chances, tiers
        self._seed = list(seed)
        self._rng = np.random.default_rng(self._seed)

    def reset(self, games: Ints) -> None:
        """Begin an episode of each of `games` (episodes,), with the same draws every time."""
        self._rng = np.random.default_rng(self._seed)

    def choose(self, features: Floats, episodes: Ints, rows: Ints) -> Ints:
        """Tiers (n,) for the episodes numbered `episodes` (n,)."""
        escalates = self._rng.random(len(rows)) < self._chances[episodes]
        which = self._rng.integers(1, max(2, self._tiers), len(rows))
        return np.where(escalates & (self._tiers > 1), which, 0)


class FixedPolicy:
    """Always the same tier."""

    def __init__(self, tier: int) -> None:
        self._tier = tier

    def reset(self, games: Ints) -> None:
        """There is nothing to forget of `games` (episodes,)."""

    def choose(self, features: Floats, episodes: Ints, rows: Ints) -> Ints:
        """The tier (n,) times, for each of `rows` (n,)."""
        return np.full(len(rows), self._tier, np.int64)
