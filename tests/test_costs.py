"""Cost profiles: what a step costs, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_router.costs import (
    CostProfile,
    StepTokens,
    TierCost,
    find_profile,
    ladder_profile,
    read_profile,
    save_profile,
)
from edge_router.errors import UserError

LOW = TierCost("q4_k_m", 1000, 0.010, 0.001, 0.020, 0.0001)
HIGH = TierCost("q8_0", 2000, 0.020, 0.002, 0.040)
PROFILE = CostProfile("tiny", "abcdef0123456789", (LOW, HIGH), 0.001, 0.0001, 2)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))


def test_a_step_costs_reading_handing_over_and_writing() -> None:
    cheap = PROFILE.step_seconds("q4_k_m", StepTokens(prefill=40, decode=10, depth=95))
    assert cheap == pytest.approx(0.010 + 40 * 0.001 + 10 * (0.020 + 100 * 0.0001))
    dear = PROFILE.step_seconds("q8_0", StepTokens(prefill=40, handoff=40, catchup=1, decode=10))
    assert dear == pytest.approx(0.050 + (0.001 + 0.004) + (0.020 + 0.002) + 0.4)


def test_a_tier_that_plays_alone_reads_for_itself() -> None:
    alone = PROFILE.step_seconds("q8_0", StepTokens(prefill=10, decode=1), reader="q8_0")
    assert alone == pytest.approx(0.020 + 10 * 0.002 + 0.040)


def test_a_tier_that_was_not_measured_is_told() -> None:
    with pytest.raises(UserError, match="no tier 'q2_k'"):
        PROFILE.step_seconds("q2_k", StepTokens(1))


def test_profiles_are_found_by_ladder_by_name_and_by_file() -> None:
    path = save_profile(PROFILE)
    assert ladder_profile("tiny", PROFILE.ladder) == PROFILE
    assert ladder_profile("tiny", "another") is None
    assert find_profile("tiny") == find_profile(str(path)) == PROFILE


def test_an_unknown_name_is_answered_with_what_there_is() -> None:
    save_profile(PROFILE)
    with pytest.raises(UserError, match=r"'qwen3-1.7b' \(stored: tiny-abcdef01\)"):
        find_profile("qwen3-1.7b")


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": "edge-router/costs/99"},
        {"tiers": []},
        {"tiers": [{"name": "a"}]},
        {"handoff_call_s": -1},
        {"handoff_token_s": "fast"},
        {"unknown": 1},
    ],
)
def test_another_file_is_no_profile(tmp_path: Path, damage: dict[str, object]) -> None:
    path = save_profile(PROFILE)
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(UserError, match="calibrate"):
        read_profile(path)
    (tmp_path / "text.json").write_text("[]")
    with pytest.raises(UserError, match="no cost profile"):
        read_profile(tmp_path / "text.json")
