"""Explorers in processes of their own, one core each.

    with Workers(setting, 2) as workers:
        for game, new in workers.run([(tree, plan), ...]):

Results come in the order of the tasks, so what is kept does not depend on how
the processes were scheduled. A worker ends by itself when the process that
started it is gone, even by a kill.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

from edge_router.errors import UserError
from edge_router.work.children import leave_out_current_folder
from edge_router.work.lifeline import work_for
from train.router.decoder import Decoder
from train.router.explore import Job, run
from train.router.games import Game
from train.router.node import Node
from train.router.setting import LadderSetting
from train.router.tree import Explorer, GameTree


@dataclass(frozen=True)
class WorkItem:
    """A job on one game, and what is known of the game that the job builds on."""

    game: Game
    nodes: tuple[Node, ...]
    job: Job


class WorkerError(RuntimeError):
    """A worker failed; the message is its traceback."""


class Workers:
    """`count` processes with the ladder loaded; 0 does the work in this process."""

    def __init__(self, setting: LadderSetting, count: int) -> None:
        self.setting = setting
        self._decoder: Decoder | None = None
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        leave_out_current_folder()
        context = multiprocessing.get_context("spawn")
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, setting, os.getpid()), daemon=True
            )
            process.start()
            theirs.close()  # so that the worker sees the end of the pipe when we are gone
            self._processes.append(process)
            self._pipes.append(ours)

    def run(self, tasks: Iterable[WorkItem]) -> Iterator[tuple[WorkItem, list[Node]]]:
        """The new nodes of every task, in the tasks' order. Raises UserError, WorkerError."""
        if not self._pipes:
            for task in tasks:
                yield task, self._here(task)
            return
        # waiting: worker -> (number, item); done: number -> result, until its turn comes
        waiting, done, free = (
            dict[int, tuple[int, WorkItem]](),
            dict[int, tuple[WorkItem, list[Node]]](),
            [*range(len(self._pipes))],
        )
        source, sent, given = iter(tasks), 0, 0
        exhausted = False
        while True:
            # Hand out work. One item at a time: games differ in length by a factor of ten.
            while free and not exhausted:
                following = next(source, None)
                if following is None:
                    exhausted = True
                    break
                worker = free.pop(0)
                self._pipes[worker].send(following)
                waiting[worker], sent = (sent, following), sent + 1
            if not waiting:
                break
            # Take in whatever is ready.
            for pipe in wait([self._pipes[worker] for worker in waiting]):
                worker = self._pipes.index(pipe)  # type: ignore[arg-type]
                number, task = waiting.pop(worker)
                done[number] = (task, self._result(worker))
                free.append(worker)
            # Pass on in the order of the items, so that the store does not depend on scheduling.
            while given in done:
                yield done.pop(given)
                given += 1

    def _result(self, worker: int) -> list[Node]:
        try:
            answer = self._pipes[worker].recv()
        except EOFError as error:
            raise WorkerError(
                f"a worker ended by itself (exit code {self._processes[worker].exitcode})"
            ) from error
        if isinstance(answer, BaseException):
            raise answer
        result: list[Node] = answer
        return result

    def _here(self, task: WorkItem) -> list[Node]:
        if self._decoder is None:
            self._decoder = Decoder(self.setting.load(), self.setting.prompt)
        return _work(self._decoder, self.setting.max_steps, task)

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.ladder.close()
            self._decoder = None
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
        self._pipes, self._processes = [], []

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _work(decoder: Decoder, max_steps: int, task: WorkItem) -> list[Node]:
    tree = GameTree(task.game)
    tree.add(task.nodes)
    explorer = Explorer(tree, decoder, max_steps)
    try:
        return run(explorer, task.job)
    finally:
        explorer.close()


def _serve(pipe: Connection, setting: LadderSetting, parent: int) -> None:
    """The worker's loop: a task in, nodes or an exception out, until the pipe is closed."""
    work_for(parent)
    with ExitStack() as stack, suppress(EOFError, BrokenPipeError, ConnectionResetError):
        decoder: Decoder | None = None
        while True:
            task = pipe.recv()
            try:
                if decoder is None:
                    decoder = Decoder(stack.enter_context(setting.load()), setting.prompt)
                answer: object = _work(decoder, setting.max_steps, task)
            except UserError as error:
                answer = error
            except Exception:
                import traceback

                answer = WorkerError(traceback.format_exc())
            pipe.send(answer)
