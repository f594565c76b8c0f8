"""Trees of many games, kept in a store and grown on request.

with Rollouts(setting, Path("runs/router/rollouts.sqlite"), Backend(2)) as rollouts:
    games = rollouts.take(drawn("train", 1000))
    rollouts.collect(games, ExplorePlan())
    walk(rollouts.forest, games, policy, expand=rollouts.expand)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_router.router.spec import RouterSpec
from edge_router.work.pool import Backend
from edge_router.work.progress import Progress, Step, silent
from train.router.explore import ExplorePlan, Job, Played, Wanted, Workers, WorkItem
from train.router.forest import Forest, Ints
from train.router.games import KeyedGame
from train.router.node import Node
from train.router.setting import LadderSetting
from train.router.store import RolloutStore
from train.router.tree import GameTree


class Rollouts:
    """A store, the forest of what was taken from it, and workers that are started when needed.

    `backend` None explores in this process.
    """

    def __init__(
        self,
        setting: LadderSetting,
        path: Path,
        backend: Backend | None,
        progress: Progress = silent,
    ) -> None:
        self.setting = setting
        self.forest = Forest(len(setting.tiers))
        about = json.dumps(setting.conditions(), sort_keys=True)
        self.store = RolloutStore(path, setting.identity(), about)
        self.progress = progress
        self.decoded = 0  # histories that were new since this object was made
        self._backend = backend
        self._workers: Workers | None = None
        self._index: dict[str, int] = {}

    def take(self, games: Sequence[KeyedGame]) -> Ints:
        """Load what is known of the games; their indices (games,) in the forest, kept for good.

        A game of which nothing is known yet is asked for its beginning.
        """
        # Load what the store has; games of which it has nothing are asked for their beginning.
        fresh = [game for game in games if game.key not in self._index]
        trees = [self.store.load(game) for game in fresh]
        beginnings = [WorkItem(t.game, (), ExplorePlan((), 0)) for t in trees if t.root is None]
        known = {tree.game.key: tree for tree in trees}
        if beginnings:
            step = self.progress("beginnings", len(beginnings))
            for key, new in self._run(beginnings, step).items():
                known[key].add(new)
        # Into the forest in the order of `games`, not of arrival: indices are the same every run.
        for tree in trees:
            self._index[tree.game.key] = self.forest.add_tree(tree)
        return np.array([self._index[game.key] for game in games], np.int64)

    def collect(self, games: Sequence[KeyedGame], plan: ExplorePlan, what: str = "games") -> None:
        """Explore games as planned; those that were finished before are left alone.

        Interrupted at any moment, it goes on with the unfinished games when called again.
        """
        done = self.store.finished(plan.what)
        left = [game for game in games if game.key not in done]
        tasks = [WorkItem(game, tuple(self._tree(game).nodes.values()), plan) for game in left]
        self._run(tasks, self.progress(what, len(games), len(games) - len(left)), plan.what)

    def play(
        self, games: Sequence[KeyedGame], routers: Sequence[tuple[RouterSpec, float]], what: str
    ) -> None:
        """Let routers, as (spec, dial), play the games; what they need is then known."""
        if not routers or not games:
            return
        job = Played(tuple(routers), self.setting.names)
        tasks = [WorkItem(game, tuple(self._tree(game).nodes.values()), job) for game in games]
        self._run(tasks, self.progress(what, len(tasks)))

    def expand(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Make the histories after (row, tier) pairs of the forest known."""
        # By game, because a worker opens a game once and goes through its histories in turn.
        wanted: dict[int, list[tuple[bytes, int]]] = {}
        for row, tier in pairs:
            game = int(self.forest.game[row])
            wanted.setdefault(game, []).append((self.forest.nodes[row].key, tier))
        tasks = []
        for game, steps in wanted.items():
            # A worker knows nothing: it gets the histories on the way to those it starts from.
            tree = self.forest.trees[game]
            needed = {n.key: n for key, _ in steps for n in tree.path(tree.nodes[key])}
            tasks.append(WorkItem(tree.game, tuple(needed.values()), Wanted(tuple(steps))))
        self._run(tasks, silent("", len(tasks)))

    # -- parts ---------------------------------------------------------------------------

    @property
    def _workers_now(self) -> Workers:
        if self._workers is None:
            self._workers = Workers(self.setting, self._backend)
        return self._workers

    def _run(
        self, tasks: Sequence[WorkItem], step: Step, plan: str | None = None
    ) -> dict[str, list[Node]]:
        """The new nodes of each game, stored as they come, with `plan` noted as finished."""
        found: dict[str, list[Node]] = {}
        for task, new in self._workers_now.run(tasks):
            self.store.add(task.game.key, new, plan)
            self.decoded += len(new)
            found[task.game.key] = new
            step()
        # In the order of the tasks: rows of the forest do not tell how processes were scheduled.
        for task in tasks:
            index = self._index.get(task.game.key)
            if index is not None:
                self.forest.trees[index].add(found[task.game.key])
                self.forest.add(index, found[task.game.key])
        return found

    def _tree(self, game: KeyedGame) -> GameTree:
        index = self._index.get(game.key)
        return self.store.load(game) if index is None else self.forest.trees[index]

    def close(self) -> None:
        if self._workers is not None:
            self._workers.close()
            self._workers = None
        self.store.close()

    def __enter__(self) -> Rollouts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


__all__ = ["Job", "Rollouts"]
