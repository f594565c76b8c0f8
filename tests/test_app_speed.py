"""The measurement of what the app costs runs from end to end, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_router.bench import app_speed
from tests.engine_fixtures import tiny_paths

__all__ = ["tiny_paths"]


@pytest.mark.slow
def test_pairs_of_runs_with_and_without_the_app(
    tiny_paths: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed.json"
    tier = f"--tier=q4_k_m={tiny_paths['q4_k_m']}"
    options = [tier, "--rounds=1", "--threads=1", "--max-steps=2", f"--json={file}"]
    assert app_speed.main(options) == 0
    figures = json.loads(file.read_text("utf-8"))
    (pair,) = figures["pairs"]
    assert pair["off"] > 0
    assert figures["ratio"] == pair["ratio"] == pytest.approx(pair["on"] / pair["off"])
    assert "median on / off" in capsys.readouterr().out


def test_a_run_that_fails_is_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app_speed.main([f"--tier=q4_k_m={tmp_path}/gone.gguf", "--rounds=1"]) == 2
    assert "exit code 2" in capsys.readouterr().err
