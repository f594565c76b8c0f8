"""How sure a next-token distribution is: the one pass over logits that features rest on.

It runs before every step, and once more for every token of a draft, so it has to be quick beside
a decode: two or three passes over the vocabulary, no sort, no Python loop over tokens. The light
tail of a large vocabulary is left out or estimated from a sample; how far that moves the result
is written beside each constant.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_router.errors import UserError

TOP = 4  # how many of the largest logits are kept
P_FLOOR = 1e-9  # -ln p of a token that was ruled out and written all the same: 20.7 nats

# A lane is every `n_lanes`-th token: maxima over lanes vectorise, maxima over blocks do not
# (13 against 371 microseconds at 152k tokens and 32 to a lane or block).
LANE = 32
SMALL = 4096  # up to here lanes cost more than they save

# Lanes whose largest logit is more than ln(n) + SLACK below the maximum are left out. They hold
# less than n * e^-(ln n + SLACK) = e^-SLACK = 4.5e-5 of the weight of the best token alone, so
# probabilities grow by a factor of at most 1 + 4.5e-5. With d the share left out, the entropy
# moves by at most h(d) + d ln(n) < e^-SLACK * (1 + SLACK + ln n): 1.0e-3 nats at 152k tokens.
SLACK = 10.0
# Gathering a lane costs several times as much as going over it in place, exp included.
SPARSE = 8

# Where too many lanes count for that, tokens within HEAVY nats of the best are looked up one by
# one (in the few lanes that hold any) and every STRIDE-th of the lighter ones stands for its
# neighbours. A light token has at most e^-10 of the best one's weight, so the estimate of their
# sum S (in weights of the best token) has a standard error of at most
# sqrt(STRIDE * e^-10 * S): 1.2 % of the mass where S is a tenth of it.
HEAVY = 10.0
STRIDE = 31  # not a power of two: a vocabulary padded or built in blocks must not be in step
# Between these exp needs no shift by the maximum: n * e^60 fits a float32 with room, and
# everything down to 27 nats below e^-60 is still a normal number.
UNSHIFTED = 60.0
FLOOR = 80.0  # nats below the maximum at which logits (-inf!) are clipped


@dataclass(frozen=True)
class TokenStats:
    """How sure a tier was of one token it wrote."""

    p: float  # probability of the token, at temperature 1
    entropy: float  # of the distribution it came from, nats
    margin: float  # probability of the likeliest token less that of the next

    @property
    def nll(self) -> float:
        """-ln p, nats."""
        return -math.log(max(self.p, P_FLOOR))


class Measure(NamedTuple):
    """What one pass over the logits of a next-token distribution finds."""

    top: list[float]  # the largest logits, descending, at most four
    weight: float  # sum of e^(logit - largest)
    entropy: float  # nats

    def token(self, logit: float) -> TokenStats:
        """How likely a token with this logit is."""
        second = math.exp(self.top[1] - self.top[0]) if len(self.top) > 1 else 0.0
        p = math.exp(logit - self.top[0]) / self.weight
        return TokenStats(p, self.entropy, (1.0 - second) / self.weight)

    def likeliest(self, logits: NDArray[np.float32], count: int) -> list[tuple[int, float]]:
        """The `count` likeliest tokens of these logits with ln p, the likeliest first."""
        count = min(count, logits.size)
        ids = np.argpartition(logits, logits.size - count)[logits.size - count :]
        ids = ids[np.argsort(-logits[ids], kind="stable")]
        shift = self.top[0] + math.log(self.weight)
        return [(int(token), float(logits[token]) - shift) for token in ids]


class LogitMeter:
    """Measures logits of one vocabulary size, in memory of its own (not for several threads)."""

    def __init__(self, n_vocab: int) -> None:
        self.n_vocab = n_vocab
        self._lanes = n_vocab // LANE if n_vocab > SMALL else 0
        self._cut = self._lanes * LANE  # the rest, fewer than LANE tokens, is always kept
        self._cutoff = math.log(max(1, n_vocab)) + SLACK
        self._maxima = np.empty(self._lanes, np.float32)
        self._scratch = np.empty(n_vocab, np.float32)
        self._ones = np.ones(LANE, np.float32)

    def measure(self, logits: NDArray[np.float32]) -> Measure:
        """What is found in logits of shape (n_vocab,), which are not changed.

        Raises UserError when the logits hold NaN or +inf, or nothing but -inf.
        """
        logits = np.ascontiguousarray(logits, dtype=np.float32)
        if logits.shape != (self.n_vocab,):
            raise ValueError(f"logits of shape {logits.shape}, not ({self.n_vocab},)")
        return Measure(*self._measure(logits))

    def _measure(self, logits: NDArray[np.float32]) -> tuple[list[float], float, float]:
        """(largest logits in descending order, sum of e^(logit - largest), entropy in nats)."""
        if not self._lanes:
            top = _largest(logits)
            return top, *_shifted(logits, top[0])
        # 1. The largest logit of every lane, and of all.
        table, rest = logits[: self._cut].reshape(LANE, self._lanes), logits[self._cut :]
        maxima = np.maximum.reduce(table, axis=0, out=self._maxima)
        largest = maxima.max()
        if len(rest):
            largest = np.maximum(largest, rest.max())
        largest = _finite(float(largest))
        # 2. Only the lanes that count, where those are few: first all that can matter, then
        #    those near the best with a sample of the others for the tail.
        for reach, sample in ((self._cutoff, False), (HEAVY, True)):
            lanes = maxima >= largest - reach
            if np.count_nonzero(lanes) * SPARSE > self._lanes:
                continue
            near = table.take(lanes.nonzero()[0], axis=1).ravel()
            if len(rest):
                near = np.concatenate((near, rest))
            near = near[near > largest - reach]
            near.sort()
            top = near[: -TOP - 1 : -1].tolist()
            if len(top) < TOP:
                top = self._top(table, rest)
            light = logits[::STRIDE] if sample else None
            return top, *_near(near, light, largest)
        # 3. Everything, where the distribution is flat.
        with np.errstate(invalid="ignore"):
            return self._top(table, rest), *self._dense(logits, largest)

    def _top(self, table: NDArray[np.float32], rest: NDArray[np.float32]) -> list[float]:
        """The largest logits; `_maxima` holds the lanes' own."""
        # Four lanes have maxima as large as any other lane's: the four largest are in them.
        return _largest(np.concatenate((table[:, _largest_at(self._maxima)].ravel(), rest)))

    def _dense(self, logits: NDArray[np.float32], largest: float) -> tuple[float, float]:
        """Weight and entropy from all logits, without a pass for the shift where it is safe."""
        if abs(largest) <= UNSHIFTED:
            weights = np.exp(logits, out=self._scratch)
            rows, lanes = logits[: self._cut].reshape(LANE, -1), weights[: self._cut]
            # BLAS sums three times as fast as sum(), but one sum over 152k numbers would lose
            # the tail beside a large term (1e-4 nats seen): so short sums, then their sum.
            total = (self._ones @ lanes.reshape(LANE, -1)).sum()
            mean = np.matmul(rows[:, None, :], lanes.reshape(LANE, -1, 1)).sum()
            total += weights[self._cut :].sum()
            mean += logits[self._cut :].dot(weights[self._cut :])
            z, mean = float(total), float(mean) / float(total)
            if math.isfinite(mean):  # not so where a logit is -inf: -inf * 0
                return z * math.exp(-largest), max(0.0, math.log(z) - mean)
        return _shifted(logits, largest, self._scratch)


def _near(
    near: NDArray[np.float32], light: NDArray[np.float32] | None, largest: float
) -> tuple[float, float]:
    """Weight and entropy from the tokens in `near`, and a sample of those HEAVY nats down."""
    below = near - np.float32(largest)
    weights = np.exp(below)
    total, mean = float(weights.sum()), float(below.dot(weights))
    if light is not None:
        # Every STRIDE-th token stands for its neighbours; those in `near` are counted already.
        below = np.maximum(light - np.float32(largest), np.float32(-FLOOR))
        weights = np.exp(below)
        weights *= below <= -HEAVY
        total += STRIDE * float(weights.sum())
        mean += STRIDE * float(below.dot(weights))
    return total, max(0.0, math.log(total) - mean / total)


def _largest_at(maxima: NDArray[np.float32]) -> list[int]:
    """Where the TOP largest are, fewer where the rest is -inf.

    Four argmax take a tenth of the 50 microseconds of an argpartition.
    """
    values: dict[int, np.float32] = {}
    for _ in range(TOP):
        at = int(maxima.argmax())
        values.setdefault(at, maxima[at])
        maxima[at] = -np.inf
    for at, value in values.items():
        maxima[at] = value
    return list(values)


def _largest(logits: NDArray[np.float32]) -> list[float]:
    """Up to four largest logits, descending."""
    count = min(TOP, len(logits))
    top: list[float] = np.partition(logits, len(logits) - count)[-count:].tolist()
    # NaN counts as largest of all; -inf below a finite one is a token that is ruled out.
    _finite(math.nan if any(map(math.isnan, top)) else max(top))
    return sorted(top, reverse=True)


def _finite(largest: float) -> float:
    """The largest logit. Raises UserError when there is none: NaN, +inf, or -inf throughout."""
    if not math.isfinite(largest):
        raise UserError(
            "the low tier's logits are not finite numbers: its GGUF is damaged or its "
            "precision too low; make or download the file again"
        )
    return largest


def _shifted(
    logits: NDArray[np.float32], largest: float, scratch: NDArray[np.float32] | None = None
) -> tuple[float, float]:
    """Weight and entropy with logits taken relative to the largest, for any finite `largest`."""
    below = np.subtract(logits, np.float32(largest), out=scratch)
    np.maximum(below, np.float32(-FLOOR), out=below)
    weights = np.exp(below)
    total = float(weights.sum())
    return total, max(0.0, math.log(total) - float(below.dot(weights)) / total)


def confidence(tokens: Sequence[TokenStats]) -> tuple[float, float]:
    """(least probability, mean of -ln p) of the tokens; (1, 0) where there are none."""
    if not tokens:
        return 1.0, 0.0
    return min(t.p for t in tokens), sum(t.nll for t in tokens) / len(tokens)


_local = threading.local()


def meter_for(n_vocab: int) -> LogitMeter:
    """This thread's meter, kept while the vocabulary stays."""
    meter: LogitMeter | None = getattr(_local, "meter", None)
    if meter is None or meter.n_vocab != n_vocab:
        meter = _local.meter = LogitMeter(n_vocab)
    return meter


def measure(logits: NDArray[np.float32]) -> Measure:
    """`LogitMeter.measure` of logits of shape (n_vocab,) with this thread's meter."""
    return meter_for(len(logits)).measure(logits)
