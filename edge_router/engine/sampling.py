"""Choose the next token from logits: greedy, or seeded temperature / top-k / min-p / top-p.

Pure numpy on the logits as llama.cpp leaves them, without a Python loop over the
vocabulary or a sort of all of it. The order is temperature, then top-k, then min-p,
then top-p, each on what the one before left over. `allowed` limits the choice to
some token ids.

A token that a draft proposes is accepted by speculative rejection sampling: with
probability min(1, p/q), p its probability here and q in the draft; where it is
rejected the token is drawn from what p has more than q. The tokens then have the
distribution p, whatever the draft. Greedy, the token is accepted that is the arg max.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_router.errors import UserError

_COLD: Final = 1e-6  # below this, dividing by the temperature leaves float32
# A token this much less likely than the best is never drawn: all of a 152k
# vocabulary together would have 0.015 % of the best one's share.
_NEGLIGIBLE: Final = 1e-9


@dataclass(frozen=True)
class Distribution:
    """What a token was drawn from; tokens that are not in `ids` had no chance."""

    ids: NDArray[np.int32]  # shape (n,)
    probabilities: NDArray[np.float32]  # shape (n,), of sum 1

    def of(self, token: int) -> float:
        """The probability of one token."""
        return float(self.probabilities[self.ids == token].sum(dtype=np.float64))

    def excess_over(self, other: Distribution, n_vocab: int) -> NDArray[np.float32]:
        """How much more probable than in `other` each of `ids` is; 0 where it is not."""
        theirs = np.zeros(n_vocab, dtype=np.float32)
        theirs[other.ids] = other.probabilities
        more: NDArray[np.float32] = np.maximum(self.probabilities - theirs[self.ids], 0.0)
        return more


@dataclass(frozen=True)
class Draw:
    """One choice of a writer: the token, and what it was drawn from where that is needed."""

    token: int  # may be one that ends the generation
    source: Distribution | None = None  # None: greedy, or nobody will ask


class Sampler:
    """Draws one token at a time; the same seed and logits give the same tokens.

    `temperature` 0 (below a millionth) is greedy: the arg max, first of equals.
    `top_p` in (0, 1] and `min_p` in [0, 1] keep everything at 1 and 0, `top_k` so many of the
    likeliest tokens, at 0 all. Raises `UserError` on values out of range.
    """

    def __init__(
        self,
        temperature: float = 0.0,
        *,
        top_p: float = 1.0,
        min_p: float = 0.0,
        top_k: int = 0,
        seed: int = 0,
    ) -> None:
        if not 0.0 <= temperature <= 100.0:
            raise UserError(f"the temperature must lie between 0 and 100, not {temperature}")
        if not 0.0 < top_p <= 1.0:
            raise UserError(f"top-p must be above 0 and at most 1, not {top_p}")
        if not 0.0 <= min_p <= 1.0:
            raise UserError(f"min-p must lie between 0 and 1, not {min_p}")
        if top_k < 0:
            raise UserError(f"top-k must be at least 0, which keeps all, not {top_k}")
        if seed < 0:
            raise UserError(f"the seed must not be negative, but it is {seed}")
        self.temperature = temperature
        self.top_p = top_p
        self.min_p = min_p
        self.top_k = top_k
        self.seed = seed
        self._rng = np.random.default_rng([seed])
        self.source: Distribution | None = None
        """What the last token was drawn from; None when it was chosen greedily."""

    @property
    def greedy(self) -> bool:
        return self.temperature < _COLD

    def at_step(self, step: int, stream: int = 0) -> None:
        """Restart the random stream for one step of an episode.

        What a step draws then depends on the seed and the step alone, not on
        how many tokens the steps before it happened to draw. Whoever verifies a draft
        needs another `stream` than the one it was drawn with.
        """
        self._rng = np.random.default_rng([self.seed, step, *([stream] if stream else [])])

    def sample(
        self,
        logits: NDArray[np.float32],
        allowed: NDArray[np.intp] | None = None,
        proposed: Draw | None = None,
    ) -> int:
        """Next token id from `logits` (shape (n_vocab,)), out of `allowed` ids where given.

        `proposed` is a draft's choice at this place: it is what comes back where it is accepted.
        """
        scores = logits if allowed is None else logits[allowed]
        best = int(scores.argmax())  # NaN counts as the largest
        if not math.isfinite(scores[best]):
            raise UserError(
                "the logits are not finite numbers: the tier's GGUF is damaged or its precision "
                "too low; make or download the file again"
            )
        if self.greedy:
            return best if allowed is None else int(allowed[best])
        kept, weights = self._kept(scores)
        ids = (kept if allowed is None else allowed[kept]).astype(np.int32)
        self.source = Distribution(ids, weights / np.float32(weights.sum(dtype=np.float64)))
        if proposed is None or proposed.source is None:
            return int(ids[self._draw(weights)])
        return self._accept_or_draw(self.source, proposed.token, proposed.source, logits.size)

    def _accept_or_draw(self, p: Distribution, token: int, q: Distribution, n_vocab: int) -> int:
        if self._rng.random() * q.of(token) < p.of(token):
            return token
        excess = p.excess_over(q, n_vocab)
        # Where p and q differ by rounding alone nothing may be left: any draw from p will do.
        return int(p.ids[self._draw(excess if excess.any() else p.probabilities)])

    def _kept(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Indices of the scores that are left to draw from, and their weights."""
        weights = self._weights(scores)
        kept = np.flatnonzero(weights >= max(self.min_p, _NEGLIGIBLE))
        if 0 < self.top_k < kept.size:
            kept = kept[_likeliest(weights[kept], self.top_k)]
        if self.top_p < 1.0:
            kept = kept[_nucleus(weights[kept], self.top_p)]
        return kept, weights[kept]

    def _draw(self, weights: NDArray[np.float32]) -> int:
        """Index of one of `weights`, drawn in proportion to them."""
        cumulative = np.cumsum(weights, dtype=np.float64)
        point = self._rng.random() * cumulative[-1]
        return min(int(np.searchsorted(cumulative, point, "right")), weights.size - 1)

    def _weights(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities as multiples of the best token's."""
        scaled: NDArray[np.float32] = (scores - scores.max()) / np.float32(self.temperature)
        np.exp(scaled, out=scaled)
        return scaled


def _nucleus(weights: NDArray[np.float32], top_p: float) -> NDArray[np.intp]:
    """Indices of the fewest weights that make up `top_p` of the sum, the largest first.

    Sorting a whole vocabulary takes 15 ms; the nucleus is nearly always among
    the few weights above a low threshold, so only those are sorted.
    """
    wanted = top_p * float(weights.sum(dtype=np.float64))
    for threshold in (1e-2, 1e-4, 1e-6, 0.0):
        few = np.flatnonzero(weights >= threshold)
        if threshold == 0.0 or float(weights[few].sum(dtype=np.float64)) >= wanted:
            break
    few = few[np.argsort(-weights[few], kind="stable")]
    cumulative = np.cumsum(weights[few], dtype=np.float64)
    return few[: int(np.searchsorted(cumulative, wanted, "left")) + 1]


def _likeliest(weights: NDArray[np.float32], top_k: int) -> NDArray[np.intp]:
    """Indices of the `top_k` largest weights, in their order; more than one of equals may go."""
    largest = np.argpartition(weights, weights.size - top_k)[weights.size - top_k :]
    return np.sort(largest)


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-probabilities of logits (..., vocabulary) along the last axis, in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def kl_divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(p || q) in nats for rows of log-probabilities; shapes (..., n_vocab) -> (...).

    Tokens that p rules out add nothing; where q rules out what p allows, the result is infinite.
    """
    weights = np.exp(p)
    with np.errstate(invalid="ignore"):
        terms = np.where(weights > 0, weights * (p - q), 0.0)
    return np.asarray(np.maximum(terms.sum(axis=-1), 0.0))
