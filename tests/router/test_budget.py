"""A budget is kept by the order of a model's own scores, wherever they lie and drift."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_router.errors import UserError
from edge_router.ladders.ladder_file import LadderFile
from edge_router.ladders.resolve import router_for
from edge_router.router.base import Features, Router
from edge_router.router.budget import BudgetRouter, quantiles
from edge_router.router.feature_table import ALL_NAMES, SCHEMA, column
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec

TWO, THREE = ("low", "high"), ("low", "middle", "high")
STEPS = 200
WITHIN = 0.03  # of all steps, after `STEPS` of them

# Scores of step i of STEPS, drawn by r: what a stream of prompts may do to a model's doubt.
STREAMS: dict[str, Callable[[int, random.Random], float]] = {
    "the same throughout": lambda i, r: r.expovariate(1.0),
    "far above any threshold": lambda i, r: 50 + r.gauss(0, 5),
    "all alike": lambda i, r: 1.5,
    "two values": lambda i, r: float(r.random() < 0.5),
    "rising": lambda i, r: i / 20 + r.random(),
    "always a new highest": lambda i, r: i + 1.0,
    "always a new lowest": lambda i, r: STEPS - i + 0.0,
    "falling": lambda i, r: (STEPS - i) / 20 + r.random(),
    "another task halfway": lambda i, r: r.random() + 10 * (i > STEPS / 2),
    "an easier one halfway": lambda i, r: r.random() + 10 * (i < STEPS / 2),
    "in waves": lambda i, r: 1.1 + math.sin(i / 8) + 0.1 * r.random(),
}


def features(**values: float) -> Features:
    vector = np.zeros(len(ALL_NAMES), np.float32)
    vector[column("dial")] = 0.5
    for name, value in values.items():
        vector[column(name)] = value
    return Features(SCHEMA, ALL_NAMES, vector)


def budget(share: float, inner: str = "entropy:0.5", tiers: tuple[str, ...] = TWO) -> BudgetRouter:
    router = BudgetRouter(make_router(inner), share)
    router.reset(tiers, 0)
    return router


@pytest.mark.parametrize("known", [None, -100.0, 1.0, 100.0])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("stream", STREAMS)
def test_the_share_is_kept_on_drifting_scores(
    stream: str, share: float, known: float | None
) -> None:
    """Whatever is known of the scores before: nothing, what is right, or what is far off."""
    router, draw = budget(share), random.Random(7)
    if known is not None:
        router.running.begin_with([known + i / 50 for i in range(50)])
    tiers = [router.decide(features(entropy=STREAMS[stream](i, draw))).tier for i in range(STEPS)]
    assert abs(sum(tiers) / STEPS - share) <= WITHIN


def test_known_scores_keep_the_share_from_the_first_steps_on() -> None:
    def first_steps(*, known: bool) -> float:
        """The mean share of the first 20 steps, of 100 processes."""
        escalated = 0
        for seed in range(100):
            router, draw = budget(0.1), random.Random(seed)
            if known:
                before = [draw.gauss(50, 5) for _ in range(STEPS)]
                router.running.begin_with(quantiles(before))
            steps = [router.decide(features(entropy=draw.gauss(50, 5))) for _ in range(20)]
            escalated += sum(decision.tier for decision in steps)
        return escalated / 100 / 20

    assert abs(first_steps(known=True) - 0.1) < 0.01
    assert first_steps(known=False) > 0.15


def test_the_steps_that_are_escalated_are_the_unsurest() -> None:
    router, draw = budget(0.2), random.Random(3)
    scores = [draw.expovariate(1.0) for _ in range(1000)]
    escalated = [s for s in scores if router.decide(features(entropy=s)).tier]
    best = sorted(scores)[-len(escalated) :]
    assert sum(escalated) > 0.85 * sum(best), "against the best choice of as many steps"


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("first", [0.1, 5.0])  # on either side of the router's own threshold
def test_the_ends_are_always_one_tier_from_the_first_step_on(share: float, first: float) -> None:
    router = budget(share)
    decided = [router.decide(features(entropy=float(s))) for s in (first, *(range(7)), 7, 1)]
    assert {decision.tier for decision in decided} == {round(share)}
    assert "inf" not in decided[0].reason


@pytest.mark.parametrize("inner", ["entropy:0.5", "margin:0.3", "draft:0.5"])
def test_every_rule_with_a_score_keeps_it(inner: str) -> None:
    router, draw = budget(0.3, inner), random.Random(1)
    name = router.score
    tiers = [router.decide(features(**{name: draw.random()})).tier for _ in range(STEPS)]
    assert abs(sum(tiers) / STEPS - 0.3) <= WITHIN


def test_middle_tiers_have_their_part_of_it() -> None:
    router, draw = budget(0.4, tiers=THREE), random.Random(1)
    tiers = [router.decide(features(entropy=draw.random())).tier for _ in range(STEPS)]
    assert abs(sum(t > 0 for t in tiers) / STEPS - 0.4) <= WITHIN
    assert {0, 1} <= set(tiers)


def test_episodes_go_on_with_what_was_learnt_and_so_do_copies() -> None:
    router = budget(0.2)
    for i in range(100):
        router.decide(features(entropy=10 + i % 10))
    router.reset(TWO, 1)
    other = copy.copy(router)
    assert other.inner is not router.inner
    for it in (router, other):
        assert it.decide(features(entropy=5.0)).tier == 0, "half a nat would have escalated it"
    assert other.running is router.running


@pytest.mark.parametrize("inner", ["low", "high", "random:0.5", "retry", "tier:low"])
def test_a_router_without_a_score_keeps_none(inner: str) -> None:
    with pytest.raises(UserError, match="compares no score"):
        make_router(f"budget:0.2:{inner}")


@pytest.mark.parametrize("spec", ["budget:0.2", "budget:x:draft:0.5", "budget:0.2:", "budget"])
def test_a_budget_names_share_and_router(spec: str) -> None:
    with pytest.raises(UserError, match=r"budget:0.2:draft:0.5|parameter is missing"):
        make_router(spec)


@pytest.mark.parametrize("share", ["-0.1", "1.5"])
def test_a_share_lies_between_0_and_1(share: str) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        make_router(f"budget:{share}:draft:0.5")


def test_an_untrained_ladder_escalates_a_fifth_by_the_drafts_doubt() -> None:
    router: Router = router_for(LadderFile("mine", Path(), ()))
    assert (str(router.spec), router.decide_at) == ("budget:0.2:draft:0.5", "draft")


def test_auto_may_stand_within_a_budget() -> None:
    entropy, within = RouterSpec.parse("entropy:1"), RouterSpec.parse("budget:0.1:auto")
    assert str(within.with_auto(entropy)) == "budget:0.1:entropy:1"
    assert str(within.with_auto(RouterSpec.parse("budget:0.2:draft:0.5"))) == "budget:0.1:draft:0.5"


def test_a_path_within_a_budget_is_a_path() -> None:
    spec = RouterSpec.parse("budget:0.2:onnx:router.onnx")
    assert spec.file == Path("router.onnx")
    assert spec.beside(Path("/far/mine")).file == Path("/far/mine/router.onnx")
    assert spec.beside(Path("/far/mine")).short == "budget:0.2:onnx:mine/router.onnx"
