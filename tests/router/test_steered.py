"""A person may overrule a router for a step, and turn the dial of one that has only a threshold."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.router.base import Decision, Features, Router
from edge_router.router.feature_table import NAMES, SCHEMA
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from edge_router.router.steered import SteeredRouter

TIERS = ("q3_k_m", "q4_k_m", "q8_0")


def features(**values: float) -> Features:
    given = {"dial": 0.5} | values
    return Features(SCHEMA, NAMES, np.array([given.get(n, 0.0) for n in NAMES], np.float32))


def steered(spec: str) -> SteeredRouter:
    router = SteeredRouter(make_router(spec))
    router.reset(TIERS, 0)
    return router


class Counting(Router):
    """A router with a state: it takes the high tier every third time it is asked."""

    spec = RouterSpec("counting")

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        self.asked = 0

    def decide(self, features: Features) -> Decision:
        self.asked += 1
        return Decision(2 if self.asked % 3 == 0 else 0, "it counts")


def test_a_forced_tier_writes_one_step_and_the_router_the_next() -> None:
    router = steered("entropy:0.8")
    router.forced = 2
    first, second = router.decide(features(entropy=0.1)), router.decide(features(entropy=0.1))
    assert (first.tier, first.forced) == (2, True)
    assert first.reason == "forced; the router wanted q3_k_m: entropy 0.10 < 0.40"
    assert (second.tier, second.forced) == (0, False)


def test_a_forced_step_does_not_hide_the_episode_from_a_router_with_a_state() -> None:
    router = SteeredRouter(Counting())
    router.reset(TIERS, 0)
    router.forced = 1
    assert [router.decide(features()).tier for _ in range(3)] == [1, 0, 2]


def test_copies_count_for_themselves_and_are_steered_together() -> None:
    router = SteeredRouter(Counting())
    router.reset(TIERS, 0)
    one, other = copy.copy(router), copy.copy(router)
    assert [one.decide(features()).tier for _ in range(3)] == [0, 0, 2]
    router.forced = 1
    assert [other.decide(features()).tier for _ in range(3)] == [1, 0, 2]
    assert router.forced is None


def test_a_tier_that_is_given_back_is_not_forced() -> None:
    router = steered("low")
    router.forced = 2
    router.forced = None
    assert router.decide(features()).tier == 0


@pytest.mark.parametrize("spec", ["entropy:0.4", "margin:0.6", "low", "high", "random:0.5"])
def test_a_dial_in_the_middle_changes_nothing(spec: str) -> None:
    plain, router = make_router(spec), steered(spec)
    plain.reset(TIERS, 0)
    for entropy in (0.0, 0.1, 0.3, 0.5, 3.0):
        step = features(entropy=entropy, margin=1 / (1 + entropy))
        assert router.decide(step) == plain.decide(step)


@pytest.mark.parametrize("spec", ["entropy:0.4", "entropy:0", "margin:0.6", "margin:1"])
def test_the_ends_of_the_dial_are_always_low_and_always_high(spec: str) -> None:
    router = steered(spec)
    for step in ({"entropy": 2.0, "margin": 0.0}, {"entropy": 0.001, "margin": 0.999}):
        assert router.decide(features(dial=0.0, **step)).tier == 0
        assert router.decide(features(dial=1.0, **step)).tier == 2


@given(
    st.sampled_from(["entropy:0.3", "margin:0.5"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_more_quality_is_never_a_cheaper_tier(spec: str, doubt: float, a: float, b: float) -> None:
    router, low, high = steered(spec), min(a, b), max(a, b)
    step = {"entropy": doubt, "margin": 1 - doubt}
    lower = router.decide(features(dial=low, **step))
    higher = router.decide(features(dial=high, **step))
    assert lower.tier <= higher.tier


def test_it_says_whether_the_dial_does_anything() -> None:
    assert steered("entropy:0.3").heeds_dial
    assert not steered("low").heeds_dial
