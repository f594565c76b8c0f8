"""`calibrate` measures how unsure the low tier is, and a budget begins with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import edge_router
from edge_router.api import RoutedModel
from edge_router.bench.doubt import STEPS, measure_scores
from edge_router.cli.main import main
from edge_router.ladders.resolve import resolve, router_for
from edge_router.router.budget import BudgetRouter


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path))
    monkeypatch.delenv("EDGE_ROUTER_NO_SCORES")


@pytest.fixture
def model() -> Iterator[RoutedModel]:
    with edge_router.load("household", threads=1) as loaded:
        yield loaded


def test_every_rule_begins_with_what_a_game_showed(model: RoutedModel) -> None:
    household, steps = resolve("household", []), []
    measure_scores(model.ladder, household, lambda what, total, done=0: lambda: steps.append(what))
    assert len(steps) == STEPS
    for rule in ("entropy:1", "margin:0.5", "draft:0.1"):
        router = router_for(household, rule, 0.2)
        assert isinstance(router, BudgetRouter)
        scores = router.running.scores
        assert scores[0] < scores[-1], rule
        middle = scores[len(scores) // 2]
        assert router.running.now() is not None
        assert (router.running.now() or 0) > middle, "a fifth is escalated, not half"


@pytest.mark.slow
def test_calibrate_leaves_them() -> None:
    ran = CliRunner().invoke(main, ["calibrate", "-r", "1", "--threads", "1"])
    assert ran.exit_code == 0, ran.output
    router = router_for(resolve("household", []), "budget:0.2:draft:0.5")
    assert isinstance(router, BudgetRouter)
    assert len(router.running.scores) > 20
