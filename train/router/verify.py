"""Play reported episodes once more on the real engine: its replies have to be the simulator's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.simulated import SimulatedGame
from edge_router.tasks.household.pddl import read_world
from edge_router.tasks.protocol import Reply
from edge_router.work.progress import Progress
from train.router.games import FileGame
from train.router.table import WalkedRow


def verify(games: Sequence[FileGame], rows: Sequence[WalkedRow], progress: Progress) -> list[str]:
    """Every episode of every row, step by step; what differs, as sentences (nothing should)."""
    step = progress("episodes on the real engine", len(games), 0)
    wrong: list[str] = []
    for index, game in enumerate(games):
        episodes = sorted({row.actions[index] for row in rows})
        wrong += differences(game.path, game.id, episodes)
        step()
    return wrong


def differences(path: Path, name: str, episodes: Sequence[tuple[str, ...]]) -> list[str]:
    """Steps of these episodes at which the engine answers otherwise than the simulator."""
    engine, simulator = AlfworldGame(path), SimulatedGame(read_world(path))
    found = []
    try:
        for actions in episodes:
            if engine.reset() != simulator.reset():
                found.append(f"{name}: the openings differ")
            for number, action in enumerate(actions):
                theirs, ours = engine.step(action), simulator.step(action)
                if not _same(theirs, ours):
                    found.append(f"{name}, step {number}, {action!r}: {theirs} is not {ours}")
                    break
    finally:
        engine.close()
    return found


def _same(a: Reply, b: Reply) -> bool:
    return (a.observation.strip(), a.won) == (b.observation.strip(), b.won)
