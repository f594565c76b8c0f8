"""The games a router learns from and is judged on.

Generated games are named by a set and an index and drawn again whenever they
are needed. Games in files are official ones, or a folder of generated ones. Both are
explored in the simulator, which answers with the engine's own sentences in
microseconds; every episode on a file that a table reports is then played once
more, step by step, on the real engine (`verify`).

    train   labels, SFT and GRPO        select  what is chosen is chosen on these
    test    comparisons that settle something; nothing is chosen on them
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.simulated import SimulatedGame
from edge_router.tasks.games import GameRef
from edge_router.tasks.household.generator import draw_world
from edge_router.tasks.household.pddl import read_world
from edge_router.tasks.household.rules import KIND_NAMES
from edge_router.tasks.protocol import Game

SETS = ("train", "select", "test")


class KeyedGame(Protocol):
    """A game that rollouts are kept of."""

    @property
    def key(self) -> str:
        """Names the game for good, also in another run."""
        ...

    @property
    def kind(self) -> str:
        """Its task type."""
        ...

    def open(self) -> Game:
        """The game, ready to be played. Raises `UserError` for a damaged file."""
        ...


@dataclass(frozen=True)
class DrawnGame:
    """A generated household; the six task types take turns."""

    set: str
    index: int

    @property
    def key(self) -> str:
        return f"generated/{self.set}/{self.index}"

    @property
    def kind(self) -> str:
        return KIND_NAMES[self.index % len(KIND_NAMES)]

    def open(self) -> SimulatedGame:
        """The world of a key is the same in every run."""
        rng = random.Random(f"router {self.set} {self.index}")
        return SimulatedGame(draw_world(rng, self.kind), self.key)


@dataclass(frozen=True)
class FileGame:
    """A game file; its content is part of its name."""

    id: str
    path: Path
    kind: str
    digest: str

    @classmethod
    def of(cls, ref: GameRef) -> FileGame:
        digest = hashlib.sha256(ref.path.read_bytes()).hexdigest()[:16]
        return cls(ref.id, ref.path, ref.kind, digest)

    @property
    def key(self) -> str:
        return f"file/{self.id}#{self.digest}"

    def open(self) -> SimulatedGame:
        return SimulatedGame(read_world(self.path), self.id)

    def engine(self) -> AlfworldGame:
        """The same game on the real engine."""
        return AlfworldGame(self.path)


def drawn(set_name: str, count: int) -> list[DrawnGame]:
    """The first `count` games of a set: "train", "select" or "test"."""
    return [DrawnGame(set_name, index) for index in range(count)]


def from_files(refs: Sequence[GameRef]) -> list[FileGame]:
    return [FileGame.of(ref) for ref in refs]
