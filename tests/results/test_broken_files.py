"""Results files that are damaged in any way are left out of the report, with a sentence each."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_router.cli.main import main
from edge_router.evaluate.policies import Outcome, PlayedRow
from edge_router.evaluate.records import GameRecord, StepRecord
from edge_router.evaluate.rows import Row
from edge_router.evaluate.summary import summaries
from edge_router.results.file import results, write_json
from edge_router.results.outputs import games_of, sheets_of, summary_of
from edge_router.router.spec import RouterSpec

WRONG: tuple[Any, ...] = (
    None,
    0,
    -1,
    1e400,
    "",
    "x",
    [],
    {},
    [[]],
    True,
    10**400,
    "[/x]",
    "\x1b[31m",
)


def played(router: str, wins: tuple[bool, ...]) -> PlayedRow:
    step = StepRecord(router, False, 10.0, 50, 10, 0, 0, 5)
    records = [
        GameRecord(f"g{i}", "kind", won, "", "" if won else "not found", "low", (step,))
        for i, won in enumerate(wins)
    ]
    row = Row("play", RouterSpec.parse(router), "handoff")
    return PlayedRow(row, tuple(Outcome((replace(r),)) for r in records))


def good() -> dict[str, Any]:
    rows = [played("low", (True, False, True)), played("high", (True, True, False))]
    table = summaries(rows, ("low", "high"), None)
    ids = [f"pick_and_place_simple-Mug-None-Desk-30{i}/trial_S2026_000{i}" for i in range(3)]
    settings = {"model": "m", "split": "generated", "games": 3, "game_ids": ids}
    return results("policies", settings, {"policies": table}, threads=1)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if not isinstance(data, dict | list):
        return
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield from places(value, (*path, key))


def broken(seed: int) -> str:
    """A results file with one thing in it deleted, replaced, or cut off."""
    rng, data = random.Random(seed), json.loads(json.dumps(good()))
    *parents, last = rng.choice(list(places(data)))
    inner = data
    for key in parents:
        inner = inner[key]
    if rng.random() < 0.4:
        del inner[last]
    else:
        inner[last] = deepcopy(rng.choice(WRONG))
    text = json.dumps(data)
    return text if rng.random() < 0.9 else text[: rng.randrange(len(text))]


@pytest.mark.parametrize("pictures", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_report_leaves_out_what_is_damaged_and_says_so(
    pictures: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pictures:
        monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    write_json(tmp_path / "good.json", good())
    count = 10 if pictures else 300
    for seed in range(count):
        (tmp_path / f"b{seed}.json").write_text(broken(seed))
    (tmp_path / "deep.json").write_text("[" * 200_000)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    (tmp_path / "folder.json").mkdir()
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert result.exit_code == 0, result.output + repr(result.exception)
    left_out = [line for line in result.stderr.splitlines() if "is left out: " in line]
    shown = int(result.stdout.split()[0])
    assert shown + len(left_out) == count + 4
    assert any(line.startswith("deep.json") for line in left_out)
    assert "\x1b" not in (tmp_path / "report.html").read_text()
    assert all(line in result.stderr for line in left_out)


@pytest.mark.parametrize("width", [80, 100])
def test_a_policies_table_fits_the_screen_in_short_and_in_full(width: int) -> None:
    data = good()
    data["tables"]["policies"][0]["row"] = "matched:onnx:household/router.onnx"
    shown = [sheet.text(width) for sheet in (*summary_of(data), *sheets_of(data))]
    shown += ["\n".join(games_of(data, full=full, width=width)) for full in (False, True)]
    for line in "\n".join(shown).split("\n"):
        assert len(line) <= width
    assert all("matched:onnx:household/router.onnx" in text for text in shown)
    assert "2 of 3" in shown[-1]
    assert len(summary_of(data)[0].text(width).split("\n\n")) == 1
