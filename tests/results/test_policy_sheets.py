"""Which seconds the summary of a policies run shows, and that the full tables have all of them."""

from __future__ import annotations

from typing import Any

from edge_router.evaluate.policies import Outcome, PlayedRow
from edge_router.evaluate.records import GameRecord, StepRecord
from edge_router.evaluate.rows import Row
from edge_router.evaluate.summary import summaries
from edge_router.ladders.costs import CostProfile, TierCost
from edge_router.results.file import results
from edge_router.results.outputs import notes_of, sheets_of, summary_of
from edge_router.router.spec import RouterSpec

WALL = (4.0, 6.0, 11.0)  # seconds of three games; the model's part is 2 s of each
# 0.5 s to prefill and 5 tokens of 0.2 s: 1.5 s a game.
COSTS = [TierCost(name, 1, (1,), (0,), ((0.5,),), (0.2,)) for name in ("low", "high")]
PROFILE = CostProfile("m", "", (*COSTS,), handoff_call_s=0.0, handoff_token_s=0.0, threads=1)


def played(router: str, *, timed: bool = True, jobs: int = 1) -> PlayedRow:
    step = StepRecord(router, False, 2000.0, 50, 10, 0, 0, 5)
    of = Row("play", RouterSpec.parse(router), "handoff")
    records = [
        GameRecord("g", "kind", True, "won", "", "low", (step,), wall_s=wall * timed, jobs=jobs)
        for wall in WALL
    ]
    return PlayedRow(of, tuple(Outcome((record,)) for record in records))


def shown(*rows: PlayedRow, costs: bool = True) -> dict[str, Any]:
    table = summaries(rows, ("low", "high"), PROFILE if costs else None)
    settings = {"costs": "m" if costs else None, "games": 3}
    return results("policies", settings, {"policies": table}, threads=1)


def column(data: dict[str, Any], heading: str, sheet: str = "") -> list[str]:
    sheets = sheets_of(data) if sheet else summary_of(data)
    found = next(s for s in sheets if s.title.startswith(sheet))
    return [row[found.columns.index(heading)] for row in found.rows]


def test_the_summary_shows_wall_seconds_where_every_row_has_them() -> None:
    data = shown(played("low"), played("high"))
    assert column(data, "median wall s") == ["6.00", "6.00"]
    assert not {"estimated s", "model s"} & set(summary_of(data)[0].columns)
    cost = "A game on average"
    assert column(data, "median wall s", cost) == ["6.00 (5.00-8.50)"] * 2
    assert column(data, "model s", cost) == ["2.00", "2.00"]
    assert column(data, "estimated s", cost) == ["1.50", "1.50"]


def test_results_without_wall_seconds_of_every_row_show_estimates_or_the_models_seconds() -> None:
    rows = played("low", timed=False), played("high")
    assert column(shown(*rows), "estimated s") == ["1.50", "1.50"]
    assert column(shown(*rows, costs=False), "model s") == ["2.00", "2.00"]
    old = shown(*rows)
    for row in old["tables"]["policies"]:
        del row["wall_s"]  # as in results of older versions
    assert column(old, "estimated s") == ["1.50", "1.50"]
    assert column(old, "model s", "A game on average") == ["2.00", "2.00"]


def test_games_side_by_side_are_compared_by_estimates_and_the_note_says_so() -> None:
    data = shown(played("low", jobs=2), played("high", jobs=2))
    assert column(data, "estimated s") == ["1.50", "1.50"]
    assert any("compare the estimated ones" in note for note in notes_of(data))
    alone = shown(played("low", jobs=2), played("high"), costs=False)
    assert column(alone, "median wall s") == ["6.00", "6.00"]
    assert any("at once" in note and "do not compare" in note for note in notes_of(alone))
