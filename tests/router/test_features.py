"""The features are those of a full float64 softmax, whichever way they were computed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edge_router.agent.history import WatchedSampler
from edge_router.engine.sampling import Sampler
from edge_router.errors import UserError
from edge_router.router.feature_table import ALL_NAMES, FEATURES, NAMES, SCHEMA, Feature, feature
from edge_router.router.features import (
    Draft,
    Encoder,
    StepContext,
    Wording,
    extract,
    from_measure,
    with_draft,
)
from edge_router.router.logits import HEAVY, SLACK, SMALL, STRIDE, LogitMeter, TokenStats

CONTEXT = StepContext(
    step=10,
    max_steps=50,
    prompt_tokens=1500,
    new_tokens=40,
    last_refused=True,
    refused_run=2,
    repeats=9,
    last_tier=1,
    escalated_share=0.25,
    last_entropy=1.5,
    dial=0.75,
    seen_replies=3,
    escalated_steps=4,
    last_min_p=0.125,
    last_nll=0.25,
)
BIG = 151936
Logits = NDArray[np.float32]


def reference(logits: Logits) -> tuple[float, list[float]]:
    """(entropy, four largest probabilities) by a float64 softmax over everything."""
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    p = np.sort(weights / weights.sum())[::-1]
    nonzero = p[p > 0]
    return float(-(nonzero * np.log(nonzero)).sum()), [*p[:4].tolist(), 0, 0, 0, 0][:4]


def sampling_error(logits: Logits) -> float:
    """Four standard errors of the light tokens' estimated share, where it is estimated."""
    if len(logits) <= SMALL:
        return 0.0
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    light = weights[weights < math.exp(-HEAVY)]
    return float(4 * math.sqrt(STRIDE * (light**2).sum()) / weights.sum())


def assert_agrees(logits: Logits) -> None:
    features = extract(logits, CONTEXT)
    entropy, top = reference(logits)
    n, error = len(logits), sampling_error(logits)
    left_out = math.exp(-SLACK)  # the bound given in logits.py
    assert features["entropy"] == pytest.approx(
        entropy, rel=1e-5, abs=1e-4 + (left_out + error) * (1 + 2 * SLACK + math.log(n))
    )
    found = [features[f"p{i}"] for i in (1, 2, 3, 4)]
    assert found == pytest.approx(top, rel=1e-5 + left_out + error, abs=1e-7)
    assert found == sorted(found, reverse=True)
    assert features["margin"] == pytest.approx(top[0] - top[1], abs=1e-4 + error)
    assert features["top4_mass"] == pytest.approx(sum(top), abs=1e-4 + error)
    assert features["effective_tokens"] == pytest.approx(math.exp(features["entropy"]), rel=1e-5)
    assert np.isfinite(features.vector).all()


def bell(n: int, spread: float, *peaks: float, seed: int = 0) -> Logits:
    """Normal logits round 0, with peaks at scattered places."""
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(n) * spread).astype(np.float32)
    logits[rng.choice(n, len(peaks), replace=False)] = peaks
    return logits


def test_two_tokens_are_as_computed_by_hand() -> None:
    features = extract(np.array([math.log(3.0), 0.0], np.float32), CONTEXT)
    assert (features.schema, features.names) == (SCHEMA, NAMES)
    assert features.vector.dtype == np.float32
    assert features["p1"] == pytest.approx(0.75)
    assert features["p2"] == pytest.approx(0.25)
    assert features["p3"] == features["p4"] == 0.0
    assert features["margin"] == pytest.approx(0.5)
    assert features["log_odds"] == pytest.approx(math.log(3.0))
    assert features["top4_mass"] == pytest.approx(1.0)
    assert features["entropy"] == pytest.approx(0.5623351)
    assert features["effective_tokens"] == pytest.approx(1.7547654)


def test_facts_of_the_step_are_scaled_as_documented() -> None:
    features = extract(np.zeros(3, np.float32), CONTEXT)
    facts = dict(zip(NAMES[9:], features.vector[9:].tolist(), strict=True))
    assert facts == pytest.approx(
        {
            "step": 0.2,
            "prompt_tokens": 1.5,
            "new_tokens": 0.4,
            "last_refused": 1.0,
            "refused_run": 0.4,
            "repeats": 1.0,
            "last_tier": 1.0,
            "escalated_share": 0.25,
            "last_entropy": 1.5,
            "dial": 0.75,
            "seen_replies": 0.6,
            "escalated_steps": 0.4,
            "last_min_p": 0.125,
            "last_nll": 0.25,
        }
    )


def test_a_draft_is_reported_as_documented() -> None:
    tokens = (
        TokenStats(p=1.0, entropy=0.0, margin=1.0),
        TokenStats(p=0.5, entropy=0.7, margin=0.125),
        TokenStats(p=0.25, entropy=0.6, margin=0.25),
    )
    features = extract(np.zeros(3, np.float32), CONTEXT)
    wording = Wording(off_thought=1, off_reply=9, age=2, on_last=True, follows=False, ahead=-7)
    draft = Draft(tokens, action=2, repeats=2, refused=9, novel=1, wording=wording)
    drafted = with_draft(features, draft)
    assert (drafted.schema, drafted.names) == (SCHEMA, ALL_NAMES)
    assert np.array_equal(drafted.vector[: len(NAMES)], features.vector)
    assert dict(zip(ALL_NAMES, drafted.vector.tolist(), strict=True)) == pytest.approx(
        dict(zip(NAMES, features.vector.tolist(), strict=True))
        | {
            "draft_tokens": 0.3,
            "draft_min_p": 0.25,
            "draft_nll": 3 * math.log(2) / 3,
            "draft_sum_nll": 3 * math.log(2),
            "draft_entropy": 0.7,
            "draft_margin": 0.125,
            "action_min_p": 0.25,
            "action_nll": 2 * math.log(2),
            "draft_repeats": 0.4,
            "draft_refused": 1.0,
            "draft_novel": 0.25,
            "off_thought": 0.25,
            "off_reply": 1.0,
            "target_age": math.log(3) / 5,
            "on_last": 1.0,
            "follows": 0.0,
            "ahead": -1.0,
        }
    )


@pytest.mark.parametrize("age", [None, 1000])
def test_a_target_never_named_counts_as_named_long_ago(age: int | None) -> None:
    features = extract(np.zeros(3, np.float32), CONTEXT)
    draft = Draft((), action=0, repeats=0, refused=0, novel=0, wording=Wording(age=age))
    assert with_draft(features, draft)["target_age"] == 1.25


def test_an_empty_draft_has_features_too() -> None:
    features = extract(np.zeros(3, np.float32), CONTEXT)
    drafted = with_draft(features, Draft((), action=0, repeats=0, refused=0, novel=0))
    assert np.isfinite(drafted.vector).all()
    assert drafted["draft_min_p"] == 1.0


def test_a_tokens_probability_is_that_of_the_softmax() -> None:
    for n in (3, 5000, BIG):
        logits = bell(n, 2.5, 20.0, 18.0, 17.5)
        meter = LogitMeter(n)
        weights = np.exp(logits.astype(np.float64) - float(logits.max()))
        p = weights / weights.sum()
        first, second, third = np.argsort(-p)[:3]
        for token in (first, third):
            stats = meter.measure(logits).token(float(logits[token]))
            assert stats.p == pytest.approx(p[token], rel=1e-3 + 4 * sampling_error(logits))
            assert stats.margin == pytest.approx(p[first] - p[second], abs=1e-3)


@pytest.mark.parametrize("n", [5000, 32000, BIG])
@pytest.mark.parametrize(
    ("spread", "peaks"),
    [
        (0.0, ()),  # all alike
        (2.5, (12.0,)),
        (2.5, (18.0, 16.0)),  # a large term beside a long tail
        (2.5, (18.0, 18.0, 18.0, 18.0, 18.0)),  # ties at the top
        (2.5, (26.0, 25.0)),
        (2.5, (45.0, 44.0, 43.0)),  # few lanes matter
        (4.0, (29.0,)),
        (4.0, ()),
    ],
)
@pytest.mark.parametrize("offset", [0.0, 300.0, -300.0])
def test_large_vocabularies_agree_with_a_full_softmax(
    n: int, spread: float, peaks: tuple[float, ...], offset: float
) -> None:
    assert_agrees(bell(n, spread, *peaks) + np.float32(offset))


def test_what_is_left_out_stays_within_the_bound() -> None:
    cutoff = math.log(BIG) + SLACK
    for depth in (cutoff - 0.01, cutoff + 0.01):  # the worst case lies just below the cutoff
        logits = np.full(BIG, -depth, np.float32)
        logits[77777] = 0.0
        assert_agrees(logits)


def test_one_certain_token_has_no_entropy() -> None:
    for n in (1, 2, 5, 5001, BIG):
        logits = np.full(n, -np.inf, np.float32)
        logits[n // 2] = 3.0
        features = extract(logits, CONTEXT)
        assert features["entropy"] == pytest.approx(0.0, abs=1e-6)
        assert features["p1"] == features["margin"] == 1.0
        assert features["log_odds"] == feature("log_odds").most


@pytest.mark.filterwarnings("error")
def test_tokens_that_are_ruled_out_count_as_nothing() -> None:
    for n in (6, 5001, BIG):
        logits = bell(n, 1.0)
        logits[::3] = -np.inf
        entropy, _ = reference(logits)
        assert extract(logits, CONTEXT)["entropy"] == pytest.approx(entropy, abs=1e-4)


@settings(max_examples=200, deadline=None)
@given(
    arrays(
        np.float32,
        st.integers(1, 40),
        elements=st.one_of(
            st.floats(-60, 60, width=32), st.sampled_from([0.0, 1.0, 88.5, -1e4, -math.inf])
        ),
    ).filter(lambda logits: bool(np.isfinite(logits.max())))
)
@example(np.array([0, 0], np.float32))
@example(np.array([1e30, -1e30, 1e30], np.float32))
def test_tiny_vocabularies_agree_with_a_full_softmax(logits: Logits) -> None:
    assert_agrees(logits)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(4097, 9000),
    st.integers(0, 2**32 - 1),
    st.floats(0, 8),
    st.lists(st.floats(-50, 60, width=32), max_size=6),
)
def test_the_way_over_lanes_agrees_with_a_full_softmax(
    n: int, seed: int, spread: float, peaks: list[float]
) -> None:
    assert_agrees(bell(n, spread, *peaks, seed=seed))


def test_the_largest_tokens_are_found_wherever_they_are() -> None:
    for n in (4128, 4127, BIG):  # with and without a remainder
        for places in ([0, 1, 2, 3], [n - 4, n - 3, n - 2, n - 1], [0, n // 32, n // 2, n - 1]):
            logits = np.zeros(n, np.float32)
            logits[places] = [20.0, 21.0, 22.0, 23.0]
            assert_agrees(logits)
            assert extract(logits, CONTEXT)["log_odds"] == pytest.approx(1.0)


def test_logits_are_left_as_they_are_and_memory_is_not_shared() -> None:
    meter = LogitMeter(5000)
    first, second = bell(5000, 2.0), bell(5000, 2.0, 30.0, seed=1)
    kept = first.copy()
    features = from_measure(meter.measure(first), CONTEXT)
    before = features.vector.copy()
    meter.measure(second)
    assert (first == kept).all()
    assert (features.vector == before).all()
    assert (from_measure(meter.measure(first), CONTEXT).vector == before).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("n", [5, 5001, BIG])
def test_logits_that_are_no_numbers_are_refused(bad: float, n: int) -> None:
    for place in (0, n // 2, n - 1):
        logits = bell(n, 2.0)
        logits[place] = bad
        with pytest.raises(UserError, match="not finite numbers: its GGUF is damaged"):
            extract(logits, CONTEXT)


def test_logits_that_rule_out_every_token_are_refused() -> None:
    for n in (5, 5001):
        with pytest.raises(UserError, match="not finite numbers"):
            extract(np.full(n, -np.inf, np.float32), CONTEXT)


def test_another_shape_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match=r"shape \(4,\), not \(5,\)"):
        LogitMeter(5).measure(np.zeros(4, np.float32))


def test_a_measure_that_is_at_hand_serves_the_first_token_and_no_other() -> None:
    first, second = bell(BIG, 2.5, 20.0, 18.0), bell(BIG, 2.5, 15.0, 14.5)
    measure = LogitMeter(BIG).measure(first)
    watched, given = WatchedSampler(Sampler()), WatchedSampler(Sampler())
    watched.at_step(0)
    given.at_step(0, first=measure._replace(entropy=9.0))
    for logits in (first, second):
        assert watched.sample(logits) == given.sample(logits)
    assert given.stats == [replace(watched.stats[0], entropy=9.0), watched.stats[1]]
    given.at_step(1)
    given.sample(first)
    assert given.stats == watched.stats[:1]


@pytest.mark.parametrize("column", FEATURES, ids=lambda column: column.name)
def test_a_feature_comes_back_from_its_scale(column: Feature) -> None:
    low, high = max(column.least, 0.0), min(column.most, 500.0)
    for value in (low, (low + high) / 2, high):
        assert column.decode(column.encode(value)) == pytest.approx(value)
    assert column.encode(1e9) == column.encode(min(column.most, 1e9))


def test_a_matrix_is_scaled_as_each_number_is() -> None:
    values = np.random.default_rng(0).integers(-9, 1000, (50, len(FEATURES))).astype(np.float64)
    values = np.maximum(values, [0.0 if f.log else -9.0 for f in FEATURES])
    each = [[f.encode(v) for f, v in zip(FEATURES, row, strict=True)] for row in values.tolist()]
    assert np.array_equal(Encoder(FEATURES).rows(values), np.array(each, np.float32))
