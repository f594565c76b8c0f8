"""`advise`: measured on a few layers, counted up to a whole model, and a pair to convert to."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_router.bench.advice import (
    AdvisedPair,
    Assumptions,
    alone,
    by_cores,
    command,
    predicted,
    routed,
    verdict,
    verified,
)
from edge_router.bench.candidates import (
    READ,
    Candidate,
    CandidateTimes,
    LayerBench,
    chosen_types,
    columns_of,
    layer_bytes,
    output_bytes,
)
from edge_router.bench.roofline import CoresAndMemory
from edge_router.bench.synthetic import SHAPES
from edge_router.cli.main import main
from edge_router.engine.quantise import weight_types
from edge_router.results.file import read_results

STEP = Assumptions(reads=64, writes=32, escalated=0.2, accepted=0.9)
HIGH = Candidate("q8_0", 1_600_000_000, 1, CandidateTimes(4.0, 0.100, (0.2, 0.3, 0.5)))
LOW = Candidate("q4_k_m", 900_000_000, 1, CandidateTimes(3.0, 0.050, (0.2, 0.3, 0.5)))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["advise", *arguments])


def test_a_step_adds_up() -> None:
    assert alone(HIGH.times, STEP) == pytest.approx(4.0 * 64 / READ + 32 * 0.1)
    assert STEP.accepted_tokens == pytest.approx(sum(0.9**i for i in range(1, 33)))
    rest = 32 - STEP.accepted_tokens
    read = 0.5 * (1 + 0.9**16)  # the second batch only where all of the first is accepted
    expected = alone(LOW.times, STEP) + 0.2 * (read + rest * 0.1)
    assert routed(LOW.times, HIGH.times, STEP) == pytest.approx(expected)
    assert verified(HIGH.times, replace(STEP, writes=12)) == pytest.approx(0.4)
    assert verified(HIGH.times, replace(STEP, writes=20, accepted=1)) == pytest.approx(0.5 + 0.2)


def test_the_quickest_pair_is_advised_and_none_where_the_high_tier_is_as_quick() -> None:
    crude = replace(LOW, precision="q2_k", times=replace(LOW.times, decode=0.01))
    alike = replace(LOW, precision="q5_k_m", weight_bytes=1_000_000_000)
    assert AdvisedPair.best([HIGH, LOW, crude], STEP) == AdvisedPair(LOW, HIGH)
    assert AdvisedPair.best([HIGH, LOW, alike], STEP) == AdvisedPair(alike, HIGH)
    assert "--tiers q4_k_m,q8_0" in verdict([HIGH, LOW], STEP, "it")
    assert command([HIGH, LOW], STEP, "it", known=True).endswith(
        "models pull it --tiers q4_k_m,q8_0"
    )
    slow = replace(LOW, times=HIGH.times)
    assert AdvisedPair.best([HIGH, slow], STEP) == AdvisedPair(None, HIGH)
    assert "to q8_0 alone" in verdict([HIGH, slow], STEP, "it")
    routed_s = routed(slow.times, HIGH.times, STEP)
    assert f"(q4_k_m: {routed_s:.2f} s)" in verdict([HIGH, slow], STEP, "it")
    assert command([HIGH, slow], STEP, "it", known=False).endswith("CHECKPOINT --tiers q8_0")


def test_other_cores_share_the_computing_and_not_the_memory() -> None:
    machine = CoresAndMemory(2, one=10e9, all=20e9)
    assert predicted(HIGH, machine, 2) == HIGH.times
    assert predicted(HIGH, machine, 1).decode == pytest.approx(max(0.2, 1.6 / 10))
    assert predicted(HIGH, machine, 16).decode == pytest.approx(1.6 / 20)
    assert predicted(HIGH, machine, 16).prefill == pytest.approx(4.0 * 2 / 16)


def test_the_pair_for_other_cores_is_the_best_one_there() -> None:
    """Equal in computing, half the bytes: it pays where memory is the limit, and only there."""
    half = replace(LOW, times=HIGH.times)
    rows = by_cores([HIGH, half], CoresAndMemory(2, one=10e9, all=20e9), STEP)
    low = {row["cores"]: row["low"] for row in rows}
    assert (low[1], low[2], low[16]) == ("", "", "q4_k_m")
    assert rows[-1]["routed_s"] < rows[-1]["high_s"]


def test_the_layers_that_are_measured_stand_for_all() -> None:
    shape = SHAPES["qwen3-0.6b"]
    whole = weight_types("q4_k_m", columns_of(shape))
    few = chosen_types(shape, "q4_k_m", 4)
    assert layer_bytes(shape, whole) / layer_bytes(shape, few) == pytest.approx(7.0, rel=0.03)
    assert output_bytes(shape, whole) == 151936 * 1024 // 256 * 210  # Q6_K


def test_what_is_measured_is_the_output_matrix_once_and_the_layers_many_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = replace(SHAPES["tiny"], layers=8, vocabulary=4096)
    bench = LayerBench(shape, tmp_path, threads=1, repeats=1)
    asked = list[tuple[int, int]]()
    real = LayerBench._timed

    def timed(
        self: LayerBench, types: dict[str, str], *, layers: int, vocabulary: int
    ) -> CandidateTimes:
        asked.append((layers, vocabulary))
        return real(self, types, layers=layers, vocabulary=vocabulary)

    monkeypatch.setattr(LayerBench, "_timed", timed)
    found = [bench.candidate(name) for name in ("q4_k_m", "q4_k_s")]
    assert asked == [(8, 256), (1, 256), (1, 4096), (8, 256)]  # both have Q6_K embeddings
    assert all(c.times.prefill > 0 and c.times.decode > 0 for c in found)
    assert found[0].weight_bytes > found[1].weight_bytes
    assert not list(tmp_path.iterdir())


def test_a_table_one_sentence_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))
    result = run(
        "--shape=tiny", "--precisions=q8_0,q4_k_m", "-r1", "--threads=1",
        f"--json={tmp_path / 'a.json'}", f"--plot={tmp_path / 'a.svg'}", "--bandwidth=50",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    said = " ".join(result.stdout.split())
    assert "convert tiny" in said
    assert "to do so: edge-router convert CHECKPOINT --tiers " in said
    assert "predicted" in said
    assert "50.0 GB/s (given)" in said
    data = read_results(tmp_path / "a.json")
    assert [r["precision"] for r in data["tables"]["candidates"]] == ["q8_0", "q4_k_m"]
    assert [r["cores"] for r in data["tables"]["cores"]] == [1, 2, 4, 8, 16]
    assert [r["predicted"] for r in data["tables"]["cores"]] == [False, True, True, True, True]
    assert not list((tmp_path / "home" / "cache" / "advice").iterdir())


def test_an_interrupted_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path))
    measured = list[str]()
    real = LayerBench.candidate

    def candidate(self: LayerBench, precision: str) -> Candidate:
        measured.append(precision)
        if measured == ["q8_0", "q4_k_m"]:
            signal.raise_signal(signal.SIGINT)
        return real(self, precision)

    monkeypatch.setattr(LayerBench, "candidate", candidate)
    command = ("--shape=tiny", "--precisions=q8_0,q4_k_m", "-r1", "--threads=1")
    stopped = run(*command)
    assert stopped.exit_code == 130
    assert "1 of 2 precisions are kept" in " ".join(stopped.stderr.split())
    (kept,) = (tmp_path / "cache" / "advice").iterdir()
    assert [c["precision"] for c in json.loads(kept.read_text())["candidates"]] == ["q8_0"]
    assert run(*command).exit_code == 0
    assert measured == ["q8_0", "q4_k_m", "q4_k_m"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--shape=qwen4"], "there is no shape 'qwen4'"),
        (["--precisions=q9"], "there is no precision 'q9'"),
        (["--model=absent"], "there is no model 'absent'"),
        (["--shape=tiny", "--model=household"], "exclude each other"),
        (["--accepted=1.5"], "between 0 and 1"),
        (["--bandwidth=0"], "more than 0 GB/s"),
        (["--json=absent/a.json"], "make the folder"),
    ],
)
def test_bad_input_is_told_in_one_sentence(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_noise_does_not_make_an_output_matrix_cost_less_than_nothing() -> None:
    noisy = CandidateTimes(1.0, -0.1, (0.1, -0.2, 0.3))
    assert noisy.at_least(0.0) == CandidateTimes(1.0, 0.0, (0.1, 0.0, 0.3))
