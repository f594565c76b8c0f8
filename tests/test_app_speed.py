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
    off, on = pair["off"], pair["on"]
    assert off["tokens"] == on["tokens"] > 0
    assert off["episode_s"] > off["tokens"] / off["tokens_per_second"]
    assert pair["decode_ratio"] == pytest.approx(on["tokens_per_second"] / off["tokens_per_second"])
    assert figures["episode_ratio"]["median"] == pytest.approx(off["episode_s"] / on["episode_s"])
    printed = capsys.readouterr()
    assert "decode speed, on / off: median" in printed.out
    assert "run 3 of 3, app on" in printed.err


@pytest.mark.slow
def test_a_run_that_fails_is_told_in_its_own_words(
    tiny_paths: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tier = f"--tier=q4_k_m={tiny_paths['q4_k_m']}"
    assert app_speed.main([tier, "--rounds=1", "--max-steps=0"]) == 2
    error = capsys.readouterr().err
    assert "exit code 2" in error
    assert "--max-steps" in error.splitlines()[-1]


def test_a_model_that_is_not_there_is_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app_speed.main([f"--tier=q4_k_m={tmp_path}/gone.gguf", "--rounds=1"]) == 2
    assert "gone.gguf" in capsys.readouterr().err
