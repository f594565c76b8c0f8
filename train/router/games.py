"""The games a router learns from and is judged on.

Drawn games are named by a set and an index and made again whenever they are needed, by tasks that
can. Games in files are a folder's. Both are explored in the task's simulator where it has one
(ALFWorld's answers with the engine's own sentences in microseconds), else on its engine, where a
history is played again from its beginning. Every episode on a file that a table reports is then
played once more, step by step, on the real engine (`verify`).

    train   labels, SFT and GRPO        select  what is chosen is chosen on these
    test    comparisons that settle something; nothing is chosen on them
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edge_router.tasks.games import GameRef
from edge_router.tasks.protocol import Game
from edge_router.tasks.registry import DEFAULT, find_task

SETS = ("train", "select", "test")


class KeyedGame(Protocol):
    """A game that rollouts are kept of."""

    @property
    def task(self) -> str:
        """Its task's name."""
        ...

    @property
    def key(self) -> str:
        """Names the game for good, also in another run."""
        ...

    @property
    def kind(self) -> str:
        """Its type within its task."""
        ...

    def open(self) -> Game:
        """The game, ready to be played. Raises `UserError` for a damaged file."""
        ...


@dataclass(frozen=True)
class DrawnGame:
    """A game that its task draws; the task's types take turns."""

    set: str
    index: int
    task: str = DEFAULT

    @property
    def key(self) -> str:
        return f"generated/{self.set}/{self.index}"

    @property
    def kind(self) -> str:
        kinds = find_task(self.task).drawn_kinds
        return kinds[self.index % len(kinds)]

    def open(self) -> Game:
        """The game of a key is the same in every run."""
        rng = random.Random(f"router {self.set} {self.index}")
        return find_task(self.task).draw(self.kind, self.key, rng)


@dataclass(frozen=True)
class FileGame:
    """A game file; its content is part of its name."""

    ref: GameRef
    digest: str

    @classmethod
    def of(cls, ref: GameRef) -> FileGame:
        return cls(ref, hashlib.sha256(ref.path.read_bytes()).hexdigest()[:16])

    @property
    def task(self) -> str:
        return self.ref.task

    @property
    def id(self) -> str:
        return self.ref.id

    @property
    def kind(self) -> str:
        return self.ref.kind

    @property
    def key(self) -> str:
        return f"file/{self.id}#{self.digest}"

    def open(self) -> Game:
        return find_task(self.task).simulated(self.ref)

    def engine(self) -> Game:
        """The same game on the real engine."""
        return find_task(self.task).open(self.ref)


def drawn(set_name: str, count: int, task: str = DEFAULT) -> list[DrawnGame]:
    """The first `count` games of a set: "train", "select" or "test"."""
    return [DrawnGame(set_name, index, task) for index in range(count)]


def from_files(refs: Sequence[GameRef]) -> list[FileGame]:
    return [FileGame.of(ref) for ref in refs]
