"""bench speed and calibrate measure real tiers, and their mistakes are reported in a sentence."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_router.bench import loops
from edge_router.bench.calibrate import line, verdict
from edge_router.bench.decisions import decision_figures
from edge_router.bench.loops import loop_speeds
from edge_router.bench.shapes import find_subject
from edge_router.bench.speed import SpeedOptions
from edge_router.bench.synthetic import SHAPES, write_random_f16
from edge_router.bench.timing import EnergyMeter, Sample, in_turn
from edge_router.cli.main import main
from edge_router.engine.ladder import Ladder
from edge_router.engine.llama import LlamaContext, raw_decode
from edge_router.errors import UserError
from edge_router.ladders.costs import CostProfile, TierCost, find_profile
from edge_router.ladders.resolve import resolve
from edge_router.results.file import read_results

TINY = ["--shape=tiny", "--threads=1", "-r", "2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that holds the synthetic ladder already."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _home(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(made))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_speed_measures_tiers_loops_handoff_and_decisions(tmp_path: Path) -> None:
    files = [f"--json={tmp_path / 's.json'}", f"--csv={tmp_path / 's.csv'}"]
    result = run("bench", "speed", *TINY, "-p", "32", "-n", "8", "--spans=8,40", *files)
    assert result.exit_code == 0, result.output
    tables = read_results(tmp_path / "s.json")["tables"]
    assert [row["tier"] for row in tables["tiers"]] == ["q4_k_m", "q8_0"]
    for row in tables["tiers"]:
        assert row["prefill"]["n"] == row["decode"]["n"] == 2
        assert min(row["prefill"]["mean"], row["decode"]["mean"], row["load_s"]) > 0
    for row in tables["loops"]:
        assert min(row[k]["mean"] for k in ("ours", "raw", "llama_generate")) > 0
        assert row["ratio"]["raw"] > 0
    assert [row["tokens"] for row in tables["handoff"]] == [8, 40]
    assert all(row["speedup"] > 1 for row in tables["handoff"])
    assert {row["what"].partition(":")[0] for row in tables["decisions"]} >= {"low", "entropy"}
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[0].startswith("# cpu: ")
    rows = list(csv.DictReader(x for x in lines if not x.startswith("#")))
    assert {row["table"] for row in rows} == {"tiers", "loops", "handoff", "decisions"}
    assert float(rows[0]["prefill.mean"]) > 0
    assert "Handoff q4_k_m -> q8_0" in result.stdout


def test_calibrate_stores_a_profile_under_the_shapes_name(tmp_path: Path) -> None:
    """Also for a precision that llama.cpp does not make without an importance matrix."""
    out = tmp_path / "c.json"
    result = run("calibrate", *TINY, "--precisions=iq2_xxs,q8_0", "--json", out)
    assert result.exit_code == 0, result.output
    profile = find_profile("tiny")
    assert profile.names == ("iq2_xxs", "q8_0")
    assert profile.tier("q8_0").prefill(32) > 0
    assert profile.tier("q8_0").drafts == (4, 8, 16, 32, 64)  # all but the low tier verify
    assert profile.tier("iq2_xxs").drafts == ()
    assert "What verifying a draft costs" in result.stdout
    assert "worth having on this processor: " in result.stdout
    assert read_results(out)["settings"]["verdict"] in result.stdout.replace("\n", " ")


def cost(name: str, size: int, ms: float) -> TierCost:
    return TierCost(name, size, (1, 100), (0,), ((ms / 1e3, ms / 10),), (ms / 1e3,))


@pytest.mark.parametrize(
    ("milliseconds", "says"),
    [
        ((1.0, 2.0, 3.0), "worth having on this processor: q3_k_m, q4_k_m, q8_0."),
        ((2.0, 2.0, 3.0), "q4_k_m, q8_0; q3_k_m is smaller but not faster than q4_k_m (a typical"),
        ((4.0, 3.5, 3.0), ": q8_0; q3_k_m is smaller but not faster than q8_0"),
        ((1.0, 5.0, 3.0), ": q3_k_m, q8_0; q4_k_m is smaller but not faster than q8_0"),
    ],
)
def test_the_verdict_is_about_time_and_not_about_bits(
    milliseconds: Sequence[float], says: str
) -> None:
    names = ("q3_k_m", "q4_k_m", "q8_0")
    tiers = [cost(*row) for row in zip(names, (10, 20, 30), milliseconds, strict=True)]
    assert says in verdict(CostProfile("m", "", tuple(tiers), 0, 0, 1))


def test_a_line_is_fitted_by_relative_errors_and_never_negative() -> None:
    assert line([1, 10, 100], [3.0, 21.0, 201.0]) == pytest.approx((1.0, 2.0))
    assert line([1, 10, 100], [1.0, 20.0, 300.0])[0] == 0.0
    assert line([1, 10, 100], [3.0, 2.0, 1.0])[1] == 0.0


def test_the_first_round_is_thrown_away_and_things_are_taken_in_turn() -> None:
    calls: list[str] = []

    def taken(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    a, b = in_turn([lambda: taken("a"), lambda: taken("b")], 2)
    assert calls == ["a", "b"] * 3
    assert (a.values, b.values) == ((3.0, 5.0), (4.0, 6.0))
    assert Sample((2.0, 4.0, 9.0)).plain() == {
        "mean": 5.0,
        "median": 4.0,
        "n": 3,
        "sd": pytest.approx(3.6056, abs=1e-4),
    }
    assert Sample((2.0, 8.0, 9.0)).ratio(Sample((1.0, 2.0, 3.0))) == 3.0


def test_energy_is_read_from_the_packages_counters_and_they_wrap(tmp_path: Path) -> None:
    for name, energy in (("intel-rapl:0", 900), ("intel-rapl:1", 5), ("intel-rapl:0:0", 7)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{energy}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("999\n")
    meter = EnergyMeter(tmp_path)
    meter.start()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100\n")  # wrapped: 200 more
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("55\n")
    assert meter.joules() == pytest.approx(250e-6)


def test_a_machine_without_counters_says_that_nothing_was_measured(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    meter = EnergyMeter(tmp_path)
    meter.start()
    assert (meter.available, meter.joules()) == (False, None)


def test_every_router_is_timed_and_without_onnx_the_others_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = decision_figures(6000, 20)
    names = [figure["what"] for figure in figures]
    assert names[:3] == ["features, certain", "features, usual", "features, uncertain"]
    assert names[-1].startswith("onnx")
    assert all(0 < figure["median_us"] <= figure["p99_us"] for figure in figures)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert [f["what"] for f in decision_figures(10, 1)] == names[:-1]


def test_random_weights_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    files = [
        write_random_f16(SHAPES["tiny"], tmp_path / f"{i}.gguf", seed=seed).read_bytes()
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


def test_a_disk_that_is_too_full_is_reported_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage: Any = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2e9))
    with pytest.raises(UserError, match=r"qwen3-1.7b .* needs 7.4 GB .* 2.0 GB are free"):
        find_subject(None, (), "qwen3-1.7b", None, folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", [["bench", "speed"], ["calibrate"]])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--shape=qwen3-1.7"], "no shape 'qwen3-1.7' (did you mean qwen3-1.7b?)"),
        (["--shape=tiny", "--precisions=q4"], "no precision 'q4'"),
        (["--shape=tiny", "--precisions=,"], "names none"),
        (["--shape=tiny", "--model=household"], "--shape excludes"),
        (["--precisions=q8_0"], "belongs to --shape"),
        (["--model=nonesuch"], "no model 'nonesuch'"),
        (["--tier=q8_0"], "NAME=PATH"),
        (["--tier=q8_0=nowhere.gguf"], "nowhere.gguf"),
        (["--shape=tiny", "-r", "0"], "--repeats"),
        (["--shape=tiny", "--json=absent/f.json"], "make the folder"),
    ],
)
def test_bad_input_is_reported_in_one_sentence(
    command: list[str], options: list[str], says: str, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    result = run(*command, *options)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_usual_spans_are_those_that_the_context_holds() -> None:
    """The embedded ladder was trained for 1024 tokens, and 2048 are among the usual ones."""
    assert list(SpeedOptions().spans_within(1024)) == [32, 128, 512]
    assert list(SpeedOptions().spans_within(1 << 15)) == [32, 128, 512, 2048]
    assert list(SpeedOptions(spans=(2048,)).spans_within(1024)) == [2048]  # which is refused


@pytest.mark.parametrize("spans", [",", "0", "8,x", "-1"])
def test_spans_are_numbers(spans: str) -> None:
    result = run("bench", "speed", *TINY, f"--spans={spans}")
    assert result.exit_code == 2
    assert "numbers joined by commas" in result.stderr


def test_a_results_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    for name, data in (("other", {"schema": "edge-router/bench/99"}), ("none", {"rows": []})):
        (tmp_path / name).write_text(json.dumps(data))
        with pytest.raises(UserError, match="no results of this version"):
            read_results(tmp_path / name)
    (tmp_path / "half").write_text('{"schema": "edge-router/bench/2", "kin')
    with pytest.raises(UserError, match="cannot be read as results"):
        read_results(tmp_path / "half")


def test_a_text_that_a_stop_string_ends_gives_every_loop_its_own_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def half_a_second_each(context: LlamaContext, tokens: Sequence[int]) -> float:
        assert len(tokens) < 40  # the stop string came before
        raw_decode(context, tokens)
        return 0.5 * len(tokens)

    monkeypatch.setattr(loops, "STOPS", ("\n",))
    monkeypatch.setattr(loops, "raw_decode", half_a_second_each)
    (low, _) = resolve("household", []).tiers
    with Ladder.load([low], n_ctx=512, n_threads=1) as ladder:
        assert loop_speeds(ladder, 40, 1)["raw"].median == 2.0
