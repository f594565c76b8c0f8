"""The oracle's plans, for `edge-router bench policies --oracle`: played, instead of believed.

A plan is the tier of each step of the least-cost win that was found in a game's rollouts. Only
games in files have one: their ids are those that the benchmark plays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_router.evaluate.policies import PLANS
from edge_router.results.file import write_json
from train.router.games import FileGame, KeyedGame
from train.router.setting import LadderSetting, results_stem
from train.router.table import WalkedRow, tiers_of


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
