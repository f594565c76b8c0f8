"""Sampling follows the distribution it is told to, repeats itself under a seed, stays in bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_router.engine.sampling import Sampler, kl_divergence, log_softmax
from edge_router.errors import UserError

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
ROWS = arrays(np.float32, st.integers(1, 50), elements=st.floats(-30, 30, width=32))


def shares(sampler: Sampler, n: int = 5_000, allowed: list[int] | None = None) -> list[float]:
    ids = None if allowed is None else np.array(allowed)
    counts = np.bincount([sampler.sample(LOGITS, ids) for _ in range(n)], minlength=4)
    return [float(c) / n for c in counts]


@given(logits=ROWS)
def test_greedy_is_the_arg_max(logits: np.ndarray) -> None:
    assert Sampler().sample(logits) == logits.argmax()


def test_temperature_one_draws_the_distribution_itself() -> None:
    assert shares(Sampler(1.0)) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


def test_temperature_sharpens_the_distribution() -> None:
    squares = np.array([0.5, 0.3, 0.15, 0.05]) ** 2
    assert shares(Sampler(0.5)) == pytest.approx(list(squares / squares.sum()), abs=0.03)


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    assert shares(Sampler(1.0, top_p=0.79)) == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    assert shares(Sampler(1.0, top_p=0.81))[2] > 0
    assert shares(Sampler(1.0, top_p=1e-6)) == [1, 0, 0, 0]


def test_min_p_drops_what_is_unlikely_beside_the_best() -> None:
    assert shares(Sampler(1.0, min_p=0.5)) == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    assert shares(Sampler(1.0, min_p=1.0)) == [1, 0, 0, 0]


def test_top_k_keeps_the_likeliest_tokens() -> None:
    assert shares(Sampler(1.0, top_k=2)) == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    assert shares(Sampler(1.0, top_k=1)) == [1, 0, 0, 0]
    assert shares(Sampler(1.0, top_k=9))[3] > 0


def test_only_allowed_tokens_are_drawn_in_their_proportion() -> None:
    assert shares(Sampler(1.0), allowed=[3, 2]) == pytest.approx([0, 0, 0.75, 0.25], abs=0.03)
    assert Sampler().sample(LOGITS, np.array([3, 2])) == 2


@given(
    logits=ROWS,
    temperature=st.floats(0, 5),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 1),
    top_k=st.integers(0, 5),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_any_setting_draws_a_token_that_is_there_and_the_same_one_again(
    logits: np.ndarray,
    temperature: float,
    top_p: float,
    min_p: float,
    top_k: int,
    seed: int,
    data: st.DataObject,
) -> None:
    allowed = np.array(data.draw(st.lists(st.integers(0, logits.size - 1), min_size=1)))
    settings: Any = {"top_p": top_p, "min_p": min_p, "top_k": top_k, "seed": seed}
    first, second = (
        [sampler.sample(logits, allowed) for _ in range(5)]
        for sampler in [Sampler(temperature, **settings) for _ in range(2)]
    )
    assert first == second
    assert set(first) <= set(allowed.tolist())


def test_a_step_draws_the_same_however_much_was_drawn_before() -> None:
    one, other = Sampler(1.0, seed=5), Sampler(1.0, seed=5)
    shares(other, 7)
    for sampler in (one, other):
        sampler.at_step(3)
    assert [one.sample(LOGITS) for _ in range(20)] == [other.sample(LOGITS) for _ in range(20)]
    one.at_step(3)
    other.at_step(4)
    assert [one.sample(LOGITS) for _ in range(20)] != [other.sample(LOGITS) for _ in range(20)]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top-p"),
        ({"top_p": 1.1}, "top-p"),
        ({"min_p": -0.1}, "min-p"),
        ({"min_p": 2.0}, "min-p"),
        ({"top_k": -1}, "top-k"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, float], part: str) -> None:
    with pytest.raises(UserError, match=part):
        Sampler(**options)  # type: ignore[arg-type]


def test_kl_by_hand() -> None:
    p = log_softmax(np.log(np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)))
    q = log_softmax(np.log(np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)))
    by_hand = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert kl_divergence(p, q) == pytest.approx([by_hand, 0.0], abs=1e-6)


def test_tokens_that_are_ruled_out_add_nothing_to_a_kl() -> None:
    only_first = np.array([[0.0, -np.inf]])
    even = np.log(np.array([[0.25, 0.75]]))
    assert kl_divergence(only_first, even) == pytest.approx([math.log(4)])
    assert kl_divergence(even, only_first).tolist() == [math.inf]
