"""Choose the next token from logits: greedy, or seeded temperature / top-p / min-p.

Pure numpy on the logits as llama.cpp leaves them, never a Python loop over the
vocabulary. The order is temperature, then min-p, then top-p, each on what the
one before left over. `allowed` limits the choice to some token ids.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_router.errors import UserError

# Tokens this many nats below the best one share less than 1e-7 of the mass even
# at a 152k vocabulary; leaving them out saves the exponentials of all of them.
_NEGLIGIBLE = 30.0


class Sampler:
    """Draws one token at a time; the same seed and logits give the same tokens.

    `temperature` 0 is greedy (the arg max, first of equals); `top_p` in (0, 1]
    and `min_p` in [0, 1] keep everything at 1 and 0. Raises `UserError` on
    values out of range.
    """

    def __init__(
        self, temperature: float = 0.0, *, top_p: float = 1.0, min_p: float = 0.0, seed: int = 0
    ) -> None:
        if not 0.0 <= temperature <= 100.0:
            raise UserError(f"the temperature must lie between 0 and 100, not {temperature}")
        if not 0.0 < top_p <= 1.0:
            raise UserError(f"top-p must be above 0 and at most 1, not {top_p}")
        if not 0.0 <= min_p <= 1.0:
            raise UserError(f"min-p must lie between 0 and 1, not {min_p}")
        if seed < 0:
            raise UserError(f"the seed must not be negative, but it is {seed}")
        self.temperature = temperature
        self.top_p = top_p
        self.min_p = min_p
        self.seed = seed
        self._rng = np.random.default_rng([seed])

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    def at_step(self, step: int) -> None:
        """Restart the random stream for one step of an episode.

        What a step draws then depends on the seed and the step alone, not on
        how many tokens the steps before it happened to draw.
        """
        self._rng = np.random.default_rng([self.seed, step])

    def sample(self, logits: NDArray[np.float32], allowed: NDArray[np.intp] | None = None) -> int:
        """Next token id from `logits` (shape (n_vocab,)), out of `allowed` ids where given."""
        scores = logits if allowed is None else logits[allowed]
        index = int(scores.argmax()) if self.greedy else self._draw(scores)
        return index if allowed is None else int(allowed[index])

    def _draw(self, scores: NDArray[np.float32]) -> int:
        kept, weights = self._candidates(scores)
        cumulative = np.cumsum(weights)
        point = self._rng.random() * cumulative[-1]
        return int(kept[min(int(np.searchsorted(cumulative, point, "right")), len(kept) - 1)])

    def _candidates(
        self, scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Indices that may be drawn, most likely first, and their unnormalised weights."""
        best = float(scores.max())
        margin = _NEGLIGIBLE
        if self.min_p > 0.0:
            margin = min(margin, -float(np.log(self.min_p)))
        kept = np.flatnonzero(scores >= best - margin * self.temperature)
        scaled = (scores[kept].astype(np.float64) - best) / self.temperature
        order = np.argsort(-scaled, kind="stable")
        kept, weights = kept[order], np.exp(scaled[order])
        if self.top_p < 1.0:
            cumulative = np.cumsum(weights)
            enough = int(np.searchsorted(cumulative, self.top_p * cumulative[-1], "left"))
            kept, weights = kept[: enough + 1], weights[: enough + 1]
        return kept, weights
