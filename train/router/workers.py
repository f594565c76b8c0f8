"""Explorers in processes of their own, which keep the ladder that they have loaded.

    with Workers(setting, Backend(2)) as workers:
        for item, new in workers.run([WorkItem(game, nodes, job), ...]):

The processes are those of `edge_router.work.pool`. Results come as they are ready: one long game
holds back none of the others. Who needs an order sorts them himself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from edge_router.errors import UserError
from edge_router.work.pool import Backend, Crash, Crew, StopRunError
from train.router.decoder import Decoder
from train.router.explore import Job, run
from train.router.games import KeyedGame
from train.router.node import Node
from train.router.setting import LadderSetting
from train.router.tree import GameTree


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
