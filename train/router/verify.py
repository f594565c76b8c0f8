"""Play reported episodes once more on the real engine: its replies have to be the rollouts'."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

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
        wrong += differences(game, episodes)
        step()
    return wrong


def differences(game: FileGame, episodes: Sequence[tuple[str, ...]]) -> list[str]:
    """Steps of these episodes at which the engine answers otherwise than what rollouts play on."""
    found = []
    with closing(game.engine()) as engine, closing(game.open()) as simulator:
        for actions in episodes:
            if engine.reset() != simulator.reset():
                found.append(f"{game.id}: the openings differ")
            for number, action in enumerate(actions):
                theirs, ours = engine.step(action), simulator.step(action)
                if not _same(theirs, ours):
                    found.append(f"{game.id}, step {number}, {action!r}: {theirs} is not {ours}")
                    break
    return found


def _same(a: Reply, b: Reply) -> bool:
    return (a.observation.strip(), a.won) == (b.observation.strip(), b.won)
