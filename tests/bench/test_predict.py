"""`calibrate --cores`: a second profile, predicted from the one of this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_router.bench.roofline import predicted_profile
from edge_router.cli.main import main
from edge_router.engine.trust import ladder_fingerprint
from edge_router.ladders.costs import (
    CostProfile,
    StepTokens,
    TierCost,
    find_profile,
    ladder_profile,
    save_profile,
)
from edge_router.ladders.resolve import find_ladder

LOW = TierCost("iq1_s", 100, (1, 10), (0,), ((1.0, 4.0),), (1.0,))
HIGH = TierCost("q8_0", 200, (1, 10), (0,), ((2.0, 8.0),), (2.0,), (8, 16), ((8.0, 16.0),))
MEASURED = CostProfile("household", "f" * 64, (LOW, HIGH), 0.5, 0.1, 2)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["calibrate", *arguments])


def test_cores_share_the_computing_and_no_call_is_quicker_than_the_memory() -> None:
    found = predicted_profile(MEASURED, 32, 100.0)
    low, high = found.tiers
    assert low.decode_s == (1.0,)  # 100 bytes at 100 a second
    assert high.prefill_s == ((2.0, 2.0),)
    assert high.verify_s == ((2.0, 2.0),)  # a batch of 16 takes what a token takes
    assert predicted_profile(MEASURED, 4, 1e9).tiers[1].verify_s == ((4.0, 8.0),)
    assert (found.handoff_call_s, found.handoff_token_s) == (0.5, 0.1)
    # where reading 16 costs one token, verifying a draft beats writing the same anew
    verify, write = StepTokens(0, draft=12, verify=12, decode=1), StepTokens(0, decode=12)
    assert found.step_seconds("q8_0", verify) < found.step_seconds("q8_0", write)
    assert MEASURED.step_seconds("q8_0", verify) > MEASURED.step_seconds("q8_0", write)


def test_threads_that_followed_the_machine_were_its_cores() -> None:
    followed = replace(MEASURED, threads=0, machine={"cores": 2})
    assert predicted_profile(followed, 32, 100.0).tiers == (
        predicted_profile(MEASURED, 32, 100.0).tiers
    )


def test_a_predicted_profile_is_kept_beside_the_measured_one_and_says_so() -> None:
    ladder = find_ladder("household")
    fingerprint = ladder_fingerprint(ladder.tiers)
    save_profile(replace(MEASURED, ladder=fingerprint))
    result = run("--cores=32", "--bandwidth=45")
    assert result.exit_code == 0, result.output
    assert "predicted for 32 cores, 45 GB/s" in result.stdout.replace("\n", " ")
    found = find_profile("household-on-32-cores-45-GBs")
    assert (found.predicted, found.threads, found.ladder) == ("32 cores, 45 GB/s", 32, "")
    own = ladder_profile("household", fingerprint)
    assert own is not None
    assert own.predicted == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cores=32"], "--cores and --bandwidth go together"),
        (["--bandwidth=45"], "--cores and --bandwidth go together"),
        (["--cores=4", "--bandwidth=0"], "more than 0 GB/s are needed"),
        (["--cores=4", "--bandwidth=nan"], "is not a finite number"),
        (["--cores=4", "--bandwidth=45"], "was not measured on this machine yet"),
        (["--shape=tiny", "--cores=4", "--bandwidth=45"], "there is no cost profile 'tiny'"),
    ],
)
def test_bad_input_is_told_in_one_sentence(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.output
