"""The notes of a training run: old ones are read, strange ones refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_router.errors import UserError
from edge_router.results.statistics import escalation_rate
from train.router import figures
from train.router.run import SCHEMA, read_note

OLD_ROW = {
    "name": "dearest after a refusal",
    "share_dear": 0.25,
    "success": 0.5,
    "games": 4,
    "success_low": 0.1,
    "success_high": 0.9,
}


def test_an_evaluation_of_version_1_is_read_and_drawn(tmp_path: Path) -> None:
    table = {"games": "test", "kv": "handoff", "rows": [OLD_ROW]}
    (tmp_path / "evaluate.json").write_text(json.dumps({"ladder": "x", "tables": [table]}))
    note = read_note(tmp_path, "evaluate")
    assert note is not None
    (row,) = note["tables"][0]["rows"]
    assert (row["row"], row["success"]["low"]) == ("high after a refusal", 0.1)
    assert escalation_rate(row) == 0.25
    assert [path.name for path in figures.fronts(tmp_path)] == ["router-front-test-handoff.png"]


def test_a_note_of_a_later_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "grpo.json").write_text(json.dumps({"schema": SCHEMA[:-1] + "99"}))
    with pytest.raises(UserError, match=r"router-run/99.*name another folder with --run"):
        read_note(tmp_path, "grpo")


def test_a_stage_that_was_not_run_left_no_note(tmp_path: Path) -> None:
    assert read_note(tmp_path, "sft") is None
    (tmp_path / "sft.json").write_text('{"schema": ')
    assert read_note(tmp_path, "sft") is None
