"""Cost profiles: what a step costs, and files that are none."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from edge_router.errors import UserError
from edge_router.ladders.costs import (
    CostProfile,
    StepTokens,
    TierCost,
    between,
    find_profile,
    ladder_profile,
    read_profile,
    save_profile,
)

LOW = TierCost(
    *("q4_k_m", 1000, (1, 10, 100), (0, 100)),
    prefill_s=((0.01, 0.02, 0.11), (0.02, 0.03, 0.12)),
    decode_s=(0.01, 0.02),
)
HIGH = TierCost("q8_0", 2000, (1, 100), (0,), ((0.04, 0.4),), (0.04,))
PROFILE = CostProfile("tiny", "abcdef0123456789", (LOW, HIGH), 0.001, 0.0001, 2)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))


def test_a_step_costs_reading_handing_over_and_writing() -> None:
    low = PROFILE.step_seconds("q4_k_m", StepTokens(prefill=55, decode=10, prompt_tokens=55))
    assert low == pytest.approx((0.02 + 0.09 / 2) + 10 * 0.016)
    high = PROFILE.step_seconds("q8_0", StepTokens(prefill=10, handoff=40, catchup=1, decode=10))
    assert high == pytest.approx(0.02 + (0.001 + 0.004) + 0.04 + 0.4)


def test_a_draft_that_was_not_kept_is_paid_for_as_well() -> None:
    kept = PROFILE.step_seconds("q8_0", StepTokens(prefill=10, decode=10))
    drafted = PROFILE.step_seconds("q8_0", StepTokens(prefill=10, decode=10, draft=4))
    assert drafted - kept == pytest.approx(LOW.decode(4))


def test_a_verified_draft_is_paid_for_in_batches() -> None:
    high = replace(HIGH, drafts=(4, 8), verify_s=((0.05, 0.06),))
    profile = replace(PROFILE, tiers=(LOW, high))
    step = StepTokens(prefill=10, handoff=40, draft=5, verify=6, decode=2)
    took = profile.step_seconds("q8_0", step)
    assert took == pytest.approx(0.02 + LOW.decode(5) + (0.001 + 0.004) + 0.055 + 2 * 0.04)
    assert high.verify(16, 2) == pytest.approx(2 * 0.06)


def test_where_verification_was_not_measured_it_costs_what_prefilling_does() -> None:
    assert HIGH.verify(100) == pytest.approx(0.4)
    assert HIGH.verify(0) == 0.0


def test_a_tier_that_plays_alone_reads_for_itself() -> None:
    alone = PROFILE.step_seconds("q8_0", StepTokens(prefill=100, decode=1), reader="q8_0")
    assert alone == pytest.approx(0.4 + 0.04)


@pytest.mark.parametrize(
    ("x", "value"), [(0, 2.0), (1, 2.0), (5, 4.0), (9, 6.0), (14, 3.5), (19, 1.0), (99, 1.0)]
)
def test_costs_lie_on_lines_between_what_was_measured(x: float, value: float) -> None:
    assert between((1, 9, 19), (2.0, 6.0, 1.0), x) == pytest.approx(value)


def test_what_lies_beyond_goes_on_as_it_was_going() -> None:
    assert LOW.prefill(200) == pytest.approx(0.11 + 100 * 0.001)
    assert LOW.prefill(1, depth=300) == pytest.approx(0.04)
    assert LOW.prefill(0) == HIGH.prefill(0) == PROFILE.handoff(0) == 0.0


def test_a_tier_that_was_not_measured_is_reported() -> None:
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


def test_a_profile_of_schema_1_is_read_under_its_new_names() -> None:
    """Recorded when prefilling was called reading, and decoding writing."""
    path = Path("tests/results/costs-1.json")
    old = json.loads(path.read_text(encoding="utf-8"))
    profile = read_profile(path)
    assert profile.names == ("iq1_s", "q8_0")
    for tier, before in zip(profile.tiers, old["tiers"], strict=True):
        assert [list(row) for row in tier.prefill_s] == before["read_s"]
        assert list(tier.decode_s) == before["write_s"]


def test_a_profile_of_schema_2_is_read_without_times_of_verification() -> None:
    path = save_profile(PROFILE)
    data = json.loads(path.read_text()) | {"schema": "edge-router/costs/2"}
    for tier in data["tiers"]:
        del tier["drafts"], tier["verify_s"]
    path.write_text(json.dumps(data))
    assert read_profile(path) == PROFILE


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": "edge-router/costs/99"},
        {"tiers": []},
        {"tiers": [{"name": "a"}]},
        {"tiers": [{**asdict(LOW), "decode_s": [1.0]}]},
        {"tiers": [{**asdict(LOW), "prefill_s": [[1.0, 2.0, 3.0]]}]},
        {"tiers": [{**asdict(LOW), "decode_s": [1.0, "x"]}]},
        {"tiers": [{**asdict(LOW), "drafts": [4, 8], "verify_s": [[0.1, 0.2]]}]},
        {"tiers": [{**asdict(LOW), "drafts": [8, 4], "verify_s": [[0.1, 0.2], [0.1, 0.2]]}]},
        {"handoff_call_s": -1},
        {"handoff_token_s": "fast"},
        {"machine": []},
    ],
)
def test_another_file_is_no_profile(tmp_path: Path, damage: dict[str, object]) -> None:
    path = save_profile(PROFILE)
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(UserError, match="calibrate"):
        read_profile(path)
    (tmp_path / "text.json").write_text("[]")
    with pytest.raises(UserError, match="cannot be read as a cost profile"):
        read_profile(tmp_path / "text.json")
