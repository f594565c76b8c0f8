"""What rollouts report is put to the test on the real engine.

Reported episodes are played once more there: its replies have to be the rollouts'. The oracle's
plans are written for `edge-router bench policies --oracle`, which plays them. A plan is the tier
of each step of the least-cost win that was found in a game's rollouts; only games in files have
one: their ids are those that the benchmark plays.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from edge_router.evaluate.policies import PLANS
from edge_router.results.file import write_json
from edge_router.tasks.protocol import Reply
from edge_router.work.progress import Progress
from train.router.games import FileGame, KeyedGame
from train.router.setting import LadderSetting, results_stem
from train.router.table import WalkedRow, tiers_of


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


def plans_path(folder: Path, games: str, kv: str) -> Path:
    """`plans-valid_seen-handoff.json`; the KV mode "handoff:16" is written handoff-16."""
    return folder / f"plans-{results_stem(games, kv)}.json"


def write_plans(
    path: Path, setting: LadderSetting, games: Sequence[KeyedGame], oracle: WalkedRow
) -> bool:
    """Write the plans of the games in files that the oracle wins; whether there were such games.

    `oracle` is the row of the same games. A game without a win has no plan: the benchmark plays
    it on the low tier.
    """
    files = sum(isinstance(game, FileGame) for game in games)
    if not files:
        return False
    plans = {
        record.game: list(tiers_of(record, setting.names))
        for record, game in zip(oracle.records, games, strict=True)
        if record.won and isinstance(game, FileGame)
    }
    about = {"tiers": list(setting.names), "kv": setting.kv, "games": files}
    write_json(path, {"schema": PLANS, **about, "plans": plans})
    return True
