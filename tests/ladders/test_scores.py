"""What is known of a ladder's scores is there for the next process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import edge_router
from edge_router.engine.tier import TierSpec
from edge_router.ladders.ladder_file import LadderFile
from edge_router.ladders.resolve import resolve, router_for
from edge_router.ladders.scores import LEAST, keep
from edge_router.router.budget import BudgetRouter
from tests.router.test_budget import features


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path))
    monkeypatch.delenv("EDGE_ROUTER_NO_SCORES")
    return tmp_path


@pytest.fixture
def household() -> LadderFile:
    return resolve("household", [])


def budget(ladder: LadderFile, spec: str = "entropy:0.5") -> BudgetRouter:
    router = router_for(ladder, spec, 0.2)
    assert isinstance(router, BudgetRouter)
    router.reset(("iq1_s", "q8_0"), 0)  # as the trained router wants them
    return router


def run(router: BudgetRouter, steps: int = 60) -> None:
    for i in range(steps):
        router.decide(features(entropy=10 + i % 10))


def test_a_new_process_does_not_begin_blind(household: LadderFile) -> None:
    before = budget(household)
    run(before)
    keep(before, household)
    after = budget(household)
    assert after.decide(features(entropy=12.0)).tier == 0, "half a nat would have escalated it"
    assert after.decide(features(entropy=19.5)).tier == 1


def test_a_threshold_is_no_part_of_the_scores_but_the_router_is(household: LadderFile) -> None:
    router = budget(household)
    run(router)
    keep(router, household)
    assert budget(household, "entropy:2").running.scores
    assert budget(household, "budget:0.1:entropy:1").running.scores
    assert not budget(household, "margin:0.5").running.scores
    assert not budget(household, "auto").running.scores, "a trained one has its own"


def test_another_ladder_has_its_own(household: LadderFile) -> None:
    router = budget(household)
    run(router)
    keep(router, household)
    (low, high) = household.tiers
    assert not budget(LadderFile("other", Path(), (high, low))).running.scores
    assert budget(LadderFile("other", Path(), (low,))).running.scores, "the low tier is unsure"


def test_the_scores_of_a_trained_router_belong_to_its_file(household: LadderFile) -> None:
    router = budget(household, "auto")
    for _ in range(LEAST):
        router.decide(features(entropy=1.0))
    keep(router, household)
    assert budget(household, "auto").running.scores


def test_few_scores_say_nothing(household: LadderFile, home: Path) -> None:
    router = budget(household)
    run(router, LEAST - 1)
    keep(router, household)
    assert not (home / "cache" / "scores").exists()


DAMAGE: dict[str, Callable[[str], str]] = {
    "cut off": lambda text: text[:40],
    "empty": lambda text: "",
    "no object": lambda text: "[1, 2]",
    "of another version": lambda text: text.replace("scores/1", "scores/0"),
    "a score that is no number": lambda text: text.replace("10.0", '"x"', 1),
    "a score that is infinite": lambda text: text.replace("10.0", "1e999", 1),
    "no list": lambda text: json.dumps({**json.loads(text), "quantiles": 5}),
    "too many": lambda text: json.dumps({**json.loads(text), "quantiles": [1.0] * 10_000}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_as_none(household: LadderFile, home: Path, damage: str) -> None:
    router = budget(household)
    run(router)
    keep(router, household)
    (path,) = (home / "cache" / "scores").iterdir()
    text = path.read_text()
    path.write_text(DAMAGE[damage](text))
    assert path.read_text() != text
    assert not budget(household).running.scores


def test_a_folder_that_takes_nothing_is_let_be(household: LadderFile, home: Path) -> None:
    (home / "cache").write_text("a file")
    router = budget(household)
    run(router)
    keep(router, household)


def test_a_tier_that_is_not_there_is_left_to_whoever_loads_it(tmp_path: Path) -> None:
    missing = TierSpec("low", tmp_path / "missing.gguf")
    assert not budget(LadderFile("other", Path(), (missing,))).running.scores


def test_they_are_kept_when_a_model_is_closed(household: LadderFile) -> None:
    with edge_router.load("household", threads=1) as model:
        for number in range(LEAST):
            goal = {"role": "user", "content": f"task: look {number}.\nroom: bed 1"}
            model.chat([goal], router="entropy:0.5", budget=0.2, max_tokens=1)
    assert len(budget(household).running.scores) > LEAST
