"""Baselines choose what their thresholds say, and every wrong spec is reported in a sentence."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.errors import UserError
from edge_router.router.base import Decision, Features, Router
from edge_router.router.feature_table import ALL_NAMES, SCHEMA
from edge_router.router.registry import kinds, make_router

EXISTING = ", ".join(kind.written for kind in kinds())
TWO = ("q4_k_m", "q8_0")
THREE = ("q3_k_m", "q4_k_m", "q8_0")


def features(**values: float) -> Features:
    given = {"dial": 0.5} | values
    vector = np.array([given.get(name, 0.0) for name in ALL_NAMES], np.float32)
    return Features(SCHEMA, ALL_NAMES, vector)


def decide(spec: str, tiers: tuple[str, ...], **values: float) -> Decision:
    router = make_router(spec)
    router.reset(tiers, 0)
    return router.decide(features(**values))


@pytest.mark.parametrize(
    ("spec", "tiers", "tier"),
    [
        ("low", THREE, 0),
        ("high", THREE, 2),
        ("high", TWO, 1),
        ("high", ("only",), 0),
        ("tier:q4_k_m", THREE, 1),
        ("tier:q4_k_m", TWO, 0),
    ],
)
def test_fixed_routers_always_choose_their_tier(
    spec: str, tiers: tuple[str, ...], tier: int
) -> None:
    assert decide(spec, tiers, entropy=9.0).tier == tier


@pytest.mark.parametrize(
    ("spec", "tiers", "values", "tier", "reason"),
    [
        ("entropy:0.8", TWO, {"entropy": 1.32}, 1, "entropy 1.32 >= 0.80"),
        ("entropy:0.8", TWO, {"entropy": 0.5}, 0, "entropy 0.50 < 0.80"),
        ("entropy:0.5", TWO, {"entropy": 0.5}, 1, "entropy 0.50 >= 0.50"),
        ("entropy:0.8", TWO, {"entropy": 0.7999}, 0, "entropy 0.7999 < 0.8000"),
        ("entropy:0", TWO, {"entropy": 0.0}, 1, "entropy 0.00 >= 0.00"),
        ("entropy:0.8", THREE, {"entropy": 0.3}, 0, "entropy 0.30 < 0.40"),
        ("entropy:0.8", THREE, {"entropy": 0.5}, 1, "entropy 0.50 >= 0.40"),
        ("entropy:0.8", THREE, {"entropy": 0.9}, 2, "entropy 0.90 >= 0.80"),
        ("retry", THREE, {"last_refused": 1.0}, 2, "the last command was refused"),
        ("retry", THREE, {"last_refused": 0.0}, 0, "nothing was refused"),
        ("draft:0.6", TWO, {"draft_min_p": 0.5}, 1, "least sure token 0.50 < 0.60"),
        ("draft:0.6", THREE, {"draft_min_p": 0.7}, 0, "least sure token 0.70 >= 0.60"),
        ("entropy:0.8", ("only",), {"entropy": 0.9}, 0, "entropy 0.90, only one tier"),
        ("margin:0.25", TWO, {"margin": 0.1}, 1, "margin 0.10 < 0.25"),
        ("margin:0.25", TWO, {"margin": 0.25}, 0, "margin 0.25 >= 0.25"),
        ("margin:0", TWO, {"margin": 0.0}, 0, "margin 0.00 >= 0.00"),
        ("margin:0.2", THREE, {"margin": 0.7}, 0, "margin 0.70 >= 0.60"),
        ("margin:0.2", THREE, {"margin": 0.5}, 1, "margin 0.50 < 0.60"),
        ("margin:0.2", THREE, {"margin": 0.1}, 2, "margin 0.10 < 0.20"),
    ],
)
def test_thresholds_choose_and_say_why(
    spec: str, tiers: tuple[str, ...], values: dict[str, float], tier: int, reason: str
) -> None:
    decision = decide(spec, tiers, **values)
    assert (decision.tier, decision.reason) == (tier, reason)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 6))
def test_the_high_tier_is_chosen_where_the_threshold_as_given_is_met(
    threshold: float, value: float, n: int
) -> None:
    tiers = tuple(f"t{i}" for i in range(n))
    seen = features(entropy=value, margin=value)
    stored = seen["entropy"]  # as float32
    for spec, met in (
        (f"entropy:{threshold}", stored >= threshold),
        (f"margin:{threshold}", stored < threshold),
    ):
        router = make_router(spec)
        router.reset(tiers, 0)
        decision = router.decide(seen)
        assert (decision.tier == n - 1) == met
        assert 0 <= decision.tier < n


def draws(router: Router, seed: int, n: int = 200) -> list[int]:
    router.reset(THREE, seed)
    return [router.decide(features()).tier for _ in range(n)]


def test_random_draws_repeat_with_the_seed_of_the_episode() -> None:
    router = make_router("random:0.3")
    first = draws(router, 7)
    assert first == draws(router, 7) == draws(make_router("random:0.3"), 7)
    assert first != draws(router, 8)
    assert set(first) == {0, 2}
    assert 1100 < sum(tier == 2 for tier in draws(router, 1, 4000)) < 1300


def test_random_ends_of_the_scale_are_certain() -> None:
    assert set(draws(make_router("random:0"), 3)) == {0}
    assert set(draws(make_router("random:1"), 3)) == {2}
    assert decide("random:0.25", TWO).probability == 0.25


@pytest.mark.parametrize(
    "spec", ["low", "high", "tier:q8_0", "random:0.25", "entropy:0.8", "margin:0.125"]
)
def test_a_router_is_built_again_from_its_spec(spec: str) -> None:
    router = make_router(f" {spec} ")
    assert str(router.spec) == spec
    assert type(make_router(router.spec)) is type(router)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("best", f"there is no router 'best'; there are {EXISTING}"),
        ("", f"there is no router ''; there are {EXISTING}"),
        ("low:3", "router low:3: low takes no parameter; write low"),
        ("high:", "router high:: high takes no parameter; write high"),
        ("tier", "router tier: its parameter is missing; write tier:NAME"),
        ("onnx:", "router onnx:: its parameter is missing; write onnx:PATH"),
        ("random", "router random: its parameter is missing; write random:P"),
        ("entropy:", "router entropy:: its parameter is missing; write entropy:T"),
        (
            "margin:a lot",
            "router margin:a lot: 'a lot' is not a number; write margin:T, for example margin:0.5",
        ),
        ("random:1.5", "router random:1.5: the probability must be between 0 and 1"),
        ("random:nan", "router random:nan: the probability must be between 0 and 1"),
        ("margin:-0.1", "router margin:-0.1: the margin must be between 0 and 1"),
        (
            "entropy:-1",
            "router entropy:-1.0: the entropy must be 0 nats or more, for example entropy:0.8",
        ),
        (
            "entropy:inf",
            "router entropy:inf: the entropy must be 0 nats or more, for example entropy:0.8",
        ),
    ],
)
def test_a_wrong_spec_is_reported_in_a_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        make_router(spec)
    assert str(caught.value) == sentence


@given(st.text(max_size=20))
def test_any_text_is_a_router_or_a_sentence(text: str) -> None:
    with contextlib.suppress(UserError):
        assert make_router(text).spec.kind


def test_a_tier_that_the_ladder_lacks_is_refused_with_those_it_has() -> None:
    router = make_router("tier:q2_k")
    with pytest.raises(UserError) as caught:
        router.reset(TWO, 0)
    assert str(caught.value) == (
        "router tier:q2_k: the ladder has no tier 'q2_k'; its tiers are q4_k_m, q8_0"
    )
