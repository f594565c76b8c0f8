"""None won and all won: every table and picture of bench and training shows them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_router.evaluate.policies import Outcome, PlayedRow
from edge_router.evaluate.records import GameRecord, StepRecord
from edge_router.evaluate.rows import Row
from edge_router.evaluate.summary import summaries
from edge_router.results.file import results
from edge_router.results.outputs import sheets_of, summary_of
from edge_router.results.plots import plot
from edge_router.router.spec import RouterSpec
from train.router import figures
from train.router.run import SCHEMA

TIERS = ("low", "high")
EVERY_COUNT = pytest.mark.parametrize(
    "n", [1, 3, 100, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 7, 10))]
)


def played(router: str, won: bool, n: int) -> PlayedRow:
    step = StepRecord(router, False, 10.0, 50, 10, 0, 0, 5)
    record = GameRecord("g", "kind", won, "", "" if won else "not found", "low", (step,))
    return PlayedRow(
        Row("play", RouterSpec.parse(router), "handoff"),
        tuple(Outcome((replace(record),)) for _ in range(n)),
    )


def policies_and_tiers(n: int) -> list[dict[str, Any]]:
    """Results in which low wins nothing and high everything."""
    rows = [played("low", False, n), played("high", True, n)]
    table = summaries(rows, TIERS, None)
    distance = {"value": 1.0, "low": 1.0, "high": 1.0}
    keys = ("kl_per_token", "text_differs", "action_differs")
    tiers = [
        {**table[0], "distance": dict.fromkeys(keys, distance)},
        {**table[1], "distance": None},
    ]
    settings = {"model": "m", "split": "generated", "games": n}
    return [
        results("policies", settings, {"policies": table}, threads=1),
        results("tiers", settings, {"tiers": tiers}, threads=1),
    ]


@EVERY_COUNT
def test_bench_draws_and_tells_them(n: int, tmp_path: Path) -> None:
    for data in policies_and_tiers(n):
        assert f"0/{n}" in sheets_of(data)[0].markdown()
        assert f"{n}/{n}" in sheets_of(data)[0].markdown()
        plot(data, tmp_path / "a.svg")


@EVERY_COUNT
def test_training_draws_and_tells_them(n: int, tmp_path: Path) -> None:
    names = {"low": "always low", "high": "always high", "retry": "high after a refusal"}
    rows = [replace(played(router, router != "low", n), traces=()) for router in names]
    rows = [replace(p, row=replace(p.row, name=names[str(p.row.router)])) for p in rows]
    table = summaries(rows, TIERS, None, router=rows[-1])
    data = results("policies", {"model": "m", "split": "test"}, {"policies": table}, threads=1)
    assert f"{n}/{n}" in summary_of(data)[0].markdown()
    note = {"schema": SCHEMA, "tables": [{"games": "test", "kv": "handoff", "rows": table}]}
    (tmp_path / "evaluate.json").write_text(json.dumps(note))
    assert [path.name for path in figures.fronts(tmp_path)] == ["router-front-test-handoff.png"]
