"""The measuring script measures: both parts, as a table and as JSON, on a tiny random ladder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_router.bench.engine_figures import main
from edge_router.bench.synthetic import SHAPES, write_f16


def test_figures_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    options = ["--shape", "tiny", "--tokens", "16", "--spans", "8", "80", "--repeats", "3"]
    options += ["--threads", "1"]
    assert main([*options, "--model-dir", str(tmp_path), "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert [row["tier"] for row in figures["decode"]] == ["q4_k_m", "q8_0"]
    assert all(min(row["ours"], row["raw"], row["ratio"]) > 0 for row in figures["decode"])
    assert [row["tokens"] for row in figures["handoff"]] == [8, 80]
    assert all(row["handoff_ms"] > 0 < row["prefill_ms"] for row in figures["handoff"])
    assert figures["machine"]["threads"] == 1
    assert "Handoff q4_k_m -> q8_0" in capsys.readouterr().out


def test_a_wrong_tier_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tier", "q8_0"]) == 2
    assert "NAME=PATH" in capsys.readouterr().err
    assert main(["--tier", "q8_0=nowhere.gguf"]) == 2
    assert "nowhere.gguf does not exist" in capsys.readouterr().err


def test_random_weights_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    files = [
        write_f16(SHAPES["tiny"], tmp_path / f"{i}.gguf", seed=seed).read_bytes()
        for i, seed in enumerate((0, 0, 1))
    ]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize(
    ("name", "millions"), [("qwen3-0.6b", 596), ("qwen3-1.7b", 1721), ("llama-3.2-1b", 1236)]
)
def test_shapes_have_the_number_of_weights_of_the_models_they_are_named_after(
    name: str, millions: int
) -> None:
    assert round(SHAPES[name].parameters / 1e6) == millions
