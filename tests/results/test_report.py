"""What becomes of results: tables, pictures, the HTML page; and the commands that make few."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_router.agent.episode import Options
from edge_router.bench import doctor
from edge_router.cli.main import main
from edge_router.engine.gguf_file import read_header
from edge_router.engine.tier import TierSpec
from edge_router.engine.tier_sizes import kv_bytes
from edge_router.engine.tier_spec import ModelRuntime
from edge_router.errors import UserError
from edge_router.evaluate.run_tiers import DistanceJob, measure_distance
from edge_router.ladders.resolve import find_ladder
from edge_router.results.file import read_results
from edge_router.results.outputs import sheets_of
from edge_router.results.plots import plot
from edge_router.results.statistics import number
from edge_router.screen.tables import Sheet
from edge_router.tasks.alfworld.game_files import split_games
from tests.kept_process import kept_process
from tests.tiny_gguf import TINY_QWEN3, write_tiny_ladder

__all__ = ["kept_process"]  # a fixture

SHORT = replace(TINY_QWEN3, name="tiny-household", prompt_style="household")
KINDS = ("policies", "tiers", "speed", "calibration")


def test_results_of_schema_1_are_read_under_their_new_names() -> None:
    """Recorded before the low tier had its name: its column was `cheap_prefill_ms`."""
    old = Path("tests/results/speed-1.json")
    data = read_results(old)
    rows = data["tables"]["handoff"]
    assert "cheap_prefill_ms" in old.read_text(encoding="utf-8")
    assert [round(row["low_prefill_ms"]["mean"], 2) for row in rows] == [23.29, 30.27]
    assert not any("cheap_prefill_ms" in row for row in rows)
    titles = [sheet.title for sheet in sheets_of(data)]
    assert "Handoff iq1_s -> q8_0 against prefill (mean ± sd, median ratio)" in titles


def test_a_calibration_of_schema_1_is_shown_with_prefill_and_decode() -> None:
    data = read_results(Path("tests/results/calibration-1.json"))
    sheet = sheets_of(data)[0]
    assert sheet.columns[2] == "prefill 1 ms"
    assert "decode ms/token" in sheet.columns
    assert len(sheet.rows) == 4


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[TierSpec]:
    paths = write_tiny_ladder(tmp_path_factory.mktemp("tiny"), SHORT, ("q3_k_m", "q8_0"))
    return [TierSpec(name, path) for name, path in paths.items()]


@pytest.fixture(scope="module")
def folder(specs: list[TierSpec], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of every kind, really measured, in one folder."""
    place, home = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("home")
    tiers = [f"--tier={s.name}={s.path}" for s in specs]
    games = ["--split=generated", "--games=1", "--max-steps=1", "--ctx=1024"]
    one = ["--threads=1", *tiers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_ROUTER_HOME", str(home))
        for name, arguments in {
            "policies": ["bench", "policies", *one, *games, "--routers=low,random:0.5,expert"],
            "tiers": ["bench", "tiers", *one, *games],
            "speed": ["bench", "speed", *one, "-p", "8", "-n", "4", "-r", "2", "--spans=4,8"],
            "calibration": ["calibrate", *one, "-r", "2"],
        }.items():
            result = run(*arguments, "--json", place / f"{name}.json")
            assert result.exit_code == 0, result.output
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_tables_and_a_picture(folder: Path, kind: str, tmp_path: Path) -> None:
    data = read_results(folder / f"{kind}.json")
    assert data["kind"] == kind
    assert data["machine"]["cpu"]
    for sheet in sheets_of(data):
        assert all(len(row) == len(sheet.columns) for row in sheet.rows)
        assert sheet.markdown().count("\n") == len(sheet.rows) + 4
    plot(data, tmp_path / "a.png")
    plot(data, tmp_path / "a.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "a.svg").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.svg"]


def test_a_report_is_one_page_that_fetches_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "package.json").write_text('{"name": "something else"}')
    page = tmp_path / "page.html"
    result = run("report", folder, "--out", page)
    (folder / "package.json").unlink()
    assert result.exit_code == 0, result.output
    assert "package.json is left out: holds no results" in result.stderr
    text = page.read_text()
    assert text.count("<svg") == len(KINDS)
    for kind in KINDS:
        assert f"{kind}.json" in text
    assert "<script" not in text
    assert not re.findall(r"(?:src|href|@import)\s*=?\s*[\"']?(?:https?:|//)", text)
    ids = re.findall(r"\bid=[\"']([^\"']+)", text)
    assert len(ids) == len(set(ids))
    assert {m[1:] for m in re.findall(r"href=[\"'](#[^\"']+)", text)} <= set(ids)


def test_a_report_without_matplotlib_has_tables_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("report", folder, "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert "pip install 'edge-router[bench]'" in result.stderr
    text = (tmp_path / "page.html").read_text()
    assert "<svg" not in text
    assert "the page has no pictures" in text
    assert "pip install" in text
    assert text.count("<table>") > len(KINDS)


def test_drawing_without_matplotlib_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("bench", "policies", "--plot", tmp_path / "p.png")
    assert result.exit_code == 2
    assert "pip install 'edge-router[bench]'" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "holds no results"),
        ({"a.json": {"schema": "edge-router/bench/99"}}, "edge-router/bench/99"),
        ({"a.json": {"schema": "edge-router/bench/2"}}, "damaged results"),
        ({"a.json": {"name": "x"}}, "holds no results"),
        (
            {
                "a.json": {
                    "schema": "edge-router/bench/2",
                    "kind": "policies",
                    "machine": {},
                    "settings": {},
                    "tables": {"policies": [{}]},
                }
            },
            "damaged",
        ),
    ],
)
def test_a_folder_of_other_things_makes_no_report(
    tmp_path: Path, files: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_text(json.dumps(data))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("report", tmp_path)
    assert result.exit_code == 2, result.output
    assert says in result.stderr.splitlines()[-1]
    assert not (tmp_path / "report.html").exists()


def test_a_report_wants_a_folder_and_a_place(folder: Path, tmp_path: Path) -> None:
    assert "is no folder" in run("report", tmp_path / "absent").stderr
    assert "make the folder" in run("report", folder, "--out", tmp_path / "a" / "b").stderr


def test_results_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(UserError, match="kind 'poems'"):
        sheets_of({"kind": "poems"})


def test_numbers_show_their_interval_and_bars_do_not_break_markdown() -> None:
    assert number({"value": 0.5, "low": 0.25, "high": 0.75}, ".0f", 100) == "50 (25-75)"
    assert number({"value": 0, "low": -1, "high": 1}, "+.1f") == "+0.0 (-1.0 to +1.0)"
    assert number({"value": 2, "low": 2, "high": 2}) == "2.0"
    assert number(None) == ""
    assert "a\\|b" in Sheet("t", ("x",), [("a|b",)]).markdown()


# -- distance -------------------------------------------------------------------------------------


def distance(*specs: TierSpec) -> Any:
    job = DistanceJob(
        split_games("generated")[0],
        specs,
        Options(max_steps=2, fingerprints=False),
        ModelRuntime(threads=1, ctx=1024),
    )
    return measure_distance(job).tiers


def test_a_tier_is_no_distance_from_itself_and_some_from_another() -> None:
    low, *_, high = find_ladder("household").tiers
    same, other = distance(TierSpec("copy", high.path), low, high)
    assert (same.tier, same.kl, same.texts, same.actions) == ("copy", 0.0, 0, 0)
    assert other.tier == low.name
    assert other.kl > 0
    assert other.tokens == same.tokens >= other.steps == 2
    assert 0 <= other.actions <= other.texts <= 2


# -- doctor ---------------------------------------------------------------------------------------


def findings(*arguments: str) -> tuple[int, dict[str, Any]]:
    result = run("doctor", "--json", *arguments)
    return result.exit_code, {f["what"]: f for f in json.loads(result.stdout)}


def test_doctor_tells_what_is_there_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path))
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    code, found = findings()
    assert code == 0
    assert "cores" in found["processor"]["found"]
    assert found["games generated"]["found"].startswith("60 in ")
    assert "q8_0" in found["ladder household"]["found"]
    assert "alfworld-download" in found["ALFWORLD_DATA"]["advice"]
    assert "edge-router calibrate" in found["costs"]["advice"]
    assert str(tmp_path) in found["data folder"]["found"]
    text = run("doctor").stdout
    assert "-> run edge-router calibrate" in text


def test_doctor_stops_at_a_ladder_that_cannot_play(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, found = findings(f"--tier=a={tmp_path}/absent.gguf")
    assert code == 1
    assert "does not exist" in found["ladder given tiers"]["found"]
    monkeypatch.setattr(doctor, "available_bytes", lambda: 1_000_000)
    code, found = findings()
    assert code == 1
    assert found["ladder household"]["stops"]
    assert "[STOP] ladder household" in run("doctor").stdout


def test_a_cache_takes_two_bytes_a_number_for_keys_and_values(specs: list[TierSpec]) -> None:
    assert kv_bytes(read_header(specs[0].path), 100) == 100 * 2 * 2 * (2 * 2 * 64)
