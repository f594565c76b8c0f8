"""What can be asked of an explorer, and explorers in processes of their own.

An explorer is asked for whole plans for a game, or for single unknown histories.

    with Workers(setting, Backend(2)) as workers:
        for item, new in workers.run([WorkItem(game, nodes, job), ...]):

The processes, which keep the ladder that they have loaded, are those of
`edge_router.work.pool`. Results come as they are ready: one long game
holds back none of the others. Who needs an order sorts them himself.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np

from edge_router.errors import UserError
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from edge_router.work.pool import Backend, Crash, Crew, StopRunError
from train.router.decoder import Decoder
from train.router.forest import Forest, walk
from train.router.games import KeyedGame
from train.router.labels import search, tier_weights
from train.router.node import Node
from train.router.policies import RouterPolicy
from train.router.setting import LadderSetting
from train.router.tree import Explorer, GameTree


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


# -- in processes of their own --------------------------------------------------------------------


@dataclass(frozen=True)
class WorkItem:
    """A job on one game, and what is known of the game that the job builds on."""

    game: KeyedGame
    nodes: tuple[Node, ...]
    job: Job


class WorkerError(RuntimeError):
    """A worker failed; the message says over which game, and how."""


class Workers:
    """Processes with the ladder loaded; without a backend the work is done in this one."""

    def __init__(self, setting: LadderSetting, backend: Backend | None) -> None:
        self.setting = setting
        self._crew = Crew(backend) if backend else None
        self._here: _Decoders | None = None

    def run(self, items: Iterable[WorkItem]) -> Iterator[tuple[WorkItem, list[Node]]]:
        """The new nodes of every item, as they are ready. Raises UserError, WorkerError."""
        if self._crew is None:
            self._here = self._here or _Decoders()
            for item in items:
                yield item, self._here.work(self.setting, item)
            return
        listed = list(items)
        with closing(self._crew.run(partial(_work, self.setting), listed)) as results:
            for index, result in results:
                if isinstance(result, Crash):
                    raise WorkerError(
                        f"{listed[index].game.key}: {result.reason}\n{result.traceback}".strip()
                    )
                yield listed[index], result

    def close(self) -> None:
        if self._crew is not None:
            self._crew.close()
        if self._here is not None:
            self._here.close()
            self._here = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Decoders:
    """The decoder that a process keeps for the items that follow, of one setting at a time."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # dask may run work in several threads
        self._setting: LadderSetting | None = None
        self._decoder: Decoder | None = None

    def work(self, setting: LadderSetting, item: WorkItem) -> list[Node]:
        with self._lock:
            tree = GameTree(item.game)
            tree.add(item.nodes)
            explorer = setting.explorer(tree, self._of(setting))
            try:
                return run(explorer, item.job)
            finally:
                explorer.close()

    def _of(self, setting: LadderSetting) -> Decoder:
        if self._decoder is None or self._setting != setting:
            self.close()
            try:
                self._decoder = setting.decoder()
            except UserError as error:
                raise StopRunError(str(error)) from error
            self._setting = setting
        return self._decoder

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.ladder.close()
            self._decoder = None


_kept = _Decoders()


def _work(setting: LadderSetting, item: WorkItem) -> list[Node]:
    """An item's new nodes, in a process of the crew."""
    return _kept.work(setting, item)
