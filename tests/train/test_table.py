"""Policies that walk through rollouts leave the records that a played benchmark leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_router.engine.tier import TierSpec
from edge_router.evaluate.rows import Row
from edge_router.evaluate.summary import summaries
from edge_router.ladders.costs import CostProfile, TierCost
from edge_router.results.file import read_results, results, write_json
from edge_router.results.outputs import sheets_of, summary_of
from edge_router.results.plots import plot
from edge_router.router.spec import RouterSpec
from tests.toy_forest import ToyGame, toy_tree
from train.router.forest import Forest
from train.router.setting import LadderSetting
from train.router.table import WalkedRow, oracle_is_beaten, oracle_row, walked_row

SETTING = LadderSetting((TierSpec("small", Path("s")), TierSpec("large", Path("l"))))
GAMES = np.array([0, 1])
HIGH = Row("play", RouterSpec("high"))
ROWS = (
    Row("play", RouterSpec("low"), name="always small"),
    HIGH,
    Row("play", RouterSpec("draft", "0")),
)


def forest() -> Forest:
    """One game that the low tier wins, one whose two sensitive steps it loses."""
    made = Forest(2)
    made.add_tree(toy_tree(ToyGame("toy/calm", (False, False, False, False))))
    made.add_tree(toy_tree(ToyGame("toy/hard", (False, True, False, True))))
    return made


def walked() -> list[WalkedRow]:
    rows = [walked_row(forest(), GAMES, SETTING, row) for row in ROWS]
    return [*rows, oracle_row(forest(), GAMES, SETTING)]


def test_a_walk_is_summed_up_as_a_played_row_is() -> None:
    rows = walked()
    low, high, _, oracle = summaries([r.played for r in rows], SETTING.names, None)
    assert [low["row"], high["row"], oracle["row"]] == ["always small", "high", "oracle"]
    assert (low["each"], high["each"], oracle["each"]) == ([1, 0], [1, 1], [1, 1])
    assert (low["against_high"]["only_reference"], high["against_high"]) == (1, None)
    assert oracle["share"]["large"]["value"] == 0.25  # the two sensitive steps of eight
    assert low["measured_s"] is None  # nothing was timed
    assert not oracle_is_beaten(rows, SETTING.names)
    assert [len(actions) for actions in rows[0].actions] == [4, 4]


def test_every_row_is_held_against_the_router_and_priced_by_every_profile(tmp_path: Path) -> None:
    seconds = {"small": 1.0, "large": 3.0}  # to write a token
    tiers = tuple(TierCost(n, 1, (1,), (0,), ((0.0,),), (s,)) for n, s in seconds.items())
    profiles = {"laptop": CostProfile("laptop", "", tiers, 0.0, 0.0, 1)}
    played = [row.played for row in walked()]
    table = summaries(played, SETTING.names, None, router=played[1], profiles=profiles)
    written = played[0].outcomes[0].last.steps[0].decode
    assert table[0]["seconds"]["laptop"]["value"] == 4 * written
    assert table[0]["against_router"]["only_reference"] == 1
    settings = {"model": "m", "split": "test", "games": 2}
    data = results("policies", settings, {"policies": table}, threads=1)
    write_json(tmp_path / "evaluate-test-handoff.json", data)
    read = read_results(tmp_path / "evaluate-test-handoff.json")
    assert "against the router" in summary_of(read)[0].columns
    assert "only it / only the router" in sheets_of(read)[0].markdown()
    assert "s, laptop" in sheets_of(read)[1].markdown()
    plot(read, tmp_path / "front.svg")  # without seconds: success by escalation rate


@pytest.mark.parametrize(("kv", "own"), [("handoff", 1), ("handoff:3", 3)])
def test_an_escalated_step_is_handed_what_its_tier_lacks(kv: str, own: int) -> None:
    setting = LadderSetting(SETTING.tiers, kv=kv)
    row = walked_row(forest(), GAMES, setting, HIGH)
    for record in row.records:
        for step in record.steps:
            assert step.catchup == min(own, step.prompt)
    first = row.records[0].steps[0]
    assert first.handoff == first.prompt - first.catchup
