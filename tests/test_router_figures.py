"""The measuring script measures every router, as a table and as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edge_router.bench.router_figures import main


def test_figures_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    options = ["--vocabulary", "6000", "--repeats", "20", "--json", str(out)]
    assert main(options) == 0
    results = json.loads(out.read_text())
    names = [figure["what"] for figure in results["figures"]]
    assert names[:3] == ["features, certain", "features, usual", "features, uncertain"]
    assert [name.partition(":")[0] for name in names[3:-1]] == [
        *("low", "high", "tier", "random", "entropy", "margin")
    ]
    assert names[-1].startswith("onnx")
    assert all(0 < figure["median_us"] <= figure["p99_us"] for figure in results["figures"])
    assert results["machine"]["cpu"]
    assert "vocabulary of 6000 tokens" in capsys.readouterr().out


def test_what_is_missing_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["--vocabulary", "10", "--repeats", "1"]) == 2
    assert "pip install onnx" in capsys.readouterr().err
    assert main(["--vocabulary", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
