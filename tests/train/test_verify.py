"""The oracle's plans play in bench policies as they were found in the rollouts."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_router.cli.main import main
from edge_router.evaluate.rows import Row
from edge_router.ladders.resolve import resolve
from edge_router.results.file import read_results
from edge_router.router.spec import RouterSpec
from edge_router.tasks.alfworld.game_files import SHIPPED, find_games
from tests.toy_forest import ToyGame, toy_tree
from train.router.explore import ExplorePlan
from train.router.forest import Forest
from train.router.games import drawn, from_files
from train.router.rollouts import Rollouts
from train.router.setting import LadderSetting
from train.router.table import compare, oracle_row, tiers_of
from train.router.verify import plans_path, write_plans

STEPS = 8


def test_a_plan_is_the_tier_of_each_step_of_the_least_cost_win() -> None:
    forest = Forest(2)
    forest.add_tree(toy_tree(ToyGame("toy/a", (False, True, False, True))))
    forest.add_tree(toy_tree(ToyGame("toy/b", (False, False, False, False))))
    setting = LadderSetting(resolve(None, ()).tiers)
    row = oracle_row(forest, np.array([0, 1]), setting)
    plans = [tiers_of(record, setting.names) for record in row.records]
    assert plans == [(0, 1, 0, 1), (0, 0, 0, 0)]
    assert row.played.note == "exact in 2 of 2 games"


def test_games_that_are_drawn_as_needed_have_no_plans(tmp_path: Path) -> None:
    path = plans_path(tmp_path, "test", "handoff:16")
    assert path.name == "plans-test-handoff-16.json"
    setting = LadderSetting(resolve(None, ()).tiers)
    row = oracle_row(Forest(2), np.array([], np.int64), setting)
    assert not write_plans(path, setting, drawn("test", 2), row)
    assert not path.exists()


@pytest.mark.slow
def test_plans_found_in_rollouts_play_on_the_real_engine_as_told(tmp_path: Path) -> None:
    """The embedded ladder: the same games won, in as many steps, by the tiers of the plans."""
    for file in sorted(SHIPPED.glob("*/*/game.tw-pddl"))[:60:30]:
        shutil.copytree(file.parent, tmp_path / "games" / file.parent.relative_to(SHIPPED))
    games = from_files(find_games(tmp_path / "games"))
    setting = LadderSetting(resolve(None, ()).tiers, max_steps=STEPS)
    with Rollouts(setting, tmp_path / "rollouts.sqlite", None) as rollouts:
        rollouts.collect(games, ExplorePlan(random=(), search=12))
        oracle = compare(rollouts, games, [Row("play", RouterSpec("high"))])[-1]
    assert write_plans(tmp_path / "plans.json", setting, games, oracle)
    plans = json.loads((tmp_path / "plans.json").read_text())["plans"]
    won = sum(record.won for record in oracle.records)
    assert len(plans) == won > 0

    command = ["bench", "policies", "--routers=oracle", f"--oracle={tmp_path / 'plans.json'}"]
    command += [f"--folder={tmp_path / 'games'}", f"--max-steps={STEPS}", "--threads=1"]
    command += [f"--store={tmp_path / 'store.sqlite'}", f"--json={tmp_path / 'p.json'}"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    rows = {row["row"]: row for row in read_results(tmp_path / "p.json")["tables"]["policies"]}
    assert rows["oracle"]["won"] == won
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        kept = database.execute("SELECT result FROM results WHERE what LIKE 'plan:%'")
        records = [json.loads(text) for (text,) in kept]
    played = {r["game"]: [setting.names.index(s["tier"]) for s in r["steps"]] for r in records}
    assert {game: played[game] for game in plans} == plans
