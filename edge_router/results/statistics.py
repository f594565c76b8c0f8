"""The intervals and tests behind every number that people compare.

- a share of games won: Wilson's 95 % interval (Wilson, 1927);
- two players on the same games: McNemar's exact test (only the games that one won and the
  other lost count), and the difference with the interval of Bonett and Price (2012);
- means and ratios of sums (seconds a game, share of steps): the percentile bootstrap over
  games, seeded, because steps of one game are not independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Z95: Final = 1.959964
RESAMPLES: Final = 2000


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval, which holds it."""

    value: float
    low: float
    high: float


def _holding(value: float, low: float, high: float) -> Estimate:
    """The interval, widened where rounding left the number itself outside.

    Of n games out of n Wilson's upper bound is 1 - 1e-16; an error bar of that length is refused.
    """
    return Estimate(value, min(low, value), max(high, value))


def share(successes: int, n: int) -> Estimate:
    """A share with Wilson's 95 % interval; (0, 1) where nothing was tried."""
    if n == 0:
        return Estimate(0.0, 0.0, 1.0)
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return _holding(p, max(0.0, centre - half), min(1.0, centre + half))


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Both ends of the interval of `share`."""
    found = share(successes, n)
    return found.low, found.high


@dataclass(frozen=True)
class Paired:
    """One player against a reference on the same games."""

    only_this: int  # games that this one won and the reference lost
    only_reference: int
    n: int
    p_value: float  # McNemar's exact test, two-sided
    difference: Estimate  # of the shares of games won, this minus reference


def paired(this: Sequence[bool], reference: Sequence[bool]) -> Paired:
    """Compare two players game by game. Raises ValueError unless both have the same games."""
    won = list(zip(this, reference, strict=True))
    only_this = sum(a and not b for a, b in won)
    only_reference = sum(b and not a for a, b in won)
    p_value = mcnemar_exact(only_this, only_reference)
    difference = _bonett_price(only_this, only_reference, len(won))
    return Paired(only_this, only_reference, len(won), p_value, difference)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p of the exact McNemar test with `b` and `c` discordant pairs."""
    n, k = b + c, min(b, c)
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return min(1.0, 2 * tail / (1 << n))


def _bonett_price(b: int, c: int, n: int) -> Estimate:
    """Difference of two paired shares; one game is added to either side before the interval."""
    if n == 0:
        return Estimate(0.0, -1.0, 1.0)
    p, q = (b + 1) / (n + 2), (c + 1) / (n + 2)
    half = Z95 * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return _holding((b - c) / n, max(-1.0, p - q - half), min(1.0, p - q + half))


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate | None:
    """Ratio of two sums over games, None where the denominators add up to nothing."""
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    if top.size == 0 or bottom.sum() == 0:
        return None
    value = float(top.sum() / bottom.sum())
    drawn = _resamples(top.size)
    below = bottom[drawn].sum(axis=1)
    return _bootstrapped(value, top[drawn].sum(axis=1)[below > 0] / below[below > 0])


def mean(values: Sequence[float]) -> Estimate | None:
    """Mean over games, None where there are none."""
    return ratio(values, [1.0] * len(values))


def median(values: Sequence[float]) -> Estimate:
    """Median of at least one value, with the interval of the percentile bootstrap."""
    known = np.asarray(values, float)
    drawn = np.median(known[_resamples(known.size)], axis=1)
    return _bootstrapped(float(np.median(known)), drawn)


def _resamples(count: int) -> NDArray[np.int64]:
    """(RESAMPLES, count) indices, drawn with replacement; the same ones every time."""
    return np.random.default_rng(0).integers(0, count, (RESAMPLES, count))


def _bootstrapped(value: float, values: NDArray[np.float64]) -> Estimate:
    """`value` with the middle 95 % of the resamples' `values`."""
    low, high = np.percentile(values, [2.5, 97.5])
    return _holding(value, float(low), float(high))


def number(estimate: Mapping[str, float] | None, form: str = ".1f", scale: float = 1.0) -> str:
    """ "8.3 (7.9-8.7)": a value and its interval; "" where there is none."""
    if estimate is None:
        return ""
    value, low, high = (scale * estimate[k] for k in ("value", "low", "high"))
    if format(low, form) == format(high, form):
        return format(value, form)
    dash = " to " if low < 0 else "-"
    return f"{value:{form}} ({low:{form}}{dash}{high:{form}})"


def escalation_rate(row: Mapping[str, Any]) -> float:
    """The share of a row's steps that the low tier did not write; 0 where no step was played."""
    low = next(iter(row["share"].values()), None)
    return 0.0 if low is None else float(1 - low["value"])
