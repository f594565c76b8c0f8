"""Intervals and tests against published values and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_router.results.statistics import mcnemar_exact, mean, median, paired, ratio, share, wilson


@pytest.mark.parametrize(
    ("won", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)],
)
def test_wilson_gives_newcombes_published_intervals(
    won: int, n: int, low: float, high: float
) -> None:
    """Newcombe 1998, table I, method 3."""
    assert wilson(won, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 50), st.integers(0, 50))
@example(0, 7)
@example(7, 0)
@example(0, 0)
def test_wilsons_interval_holds_the_share_of_none_and_of_all(won: int, lost: int) -> None:
    found = share(won, won + lost)
    assert wilson(won, won + lost) == (found.low, found.high)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_the_interval_of_a_difference_holds_it(pairs: list[tuple[bool, bool]]) -> None:
    found = paired([a for a, _ in pairs], [b for _, b in pairs]).difference
    assert -1 <= found.low <= found.value <= found.high <= 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=12))
def test_the_interval_of_a_mean_and_a_median_holds_it(values: list[float]) -> None:
    for found in (mean(values), median(values)):
        assert found is not None
        assert found.low <= found.value <= found.high


@pytest.mark.parametrize(
    ("b", "c", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (1, 9, 0.021484), (10, 2, 0.038574)]
)
def test_mcnemar_is_the_binomial_test_of_the_discordant_games(b: int, c: int, p: float) -> None:
    assert mcnemar_exact(b, c) == mcnemar_exact(c, b) == pytest.approx(p, rel=1e-4)


def test_only_games_with_different_outcomes_count() -> None:
    this = [True, True, False, False, True]
    that = [True, False, True, False, False]
    found = paired(this, that)
    assert (found.only_this, found.only_reference, found.n) == (2, 1, 5)
    assert found.difference.value == pytest.approx(0.2)
    assert found.difference.low < 0.2 < found.difference.high
    assert paired(that, this).difference.low == pytest.approx(-found.difference.high)


def test_a_pair_needs_the_same_games() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired([True], [])


def test_the_bootstrap_covers_a_mean_about_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        found = mean(list(rng.exponential(1.0, 60)))
        assert found is not None
        hits += found.low <= 1.0 <= found.high
    assert 0.88 <= hits / 200 <= 0.98


def test_a_ratio_of_nothing_is_nothing() -> None:
    assert ratio([], []) is None
    assert ratio([1.0], [0.0]) is None
    found = ratio([2.0, 4.0], [4.0, 8.0])
    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
