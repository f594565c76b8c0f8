"""What a step costs the router while it is trained: its escalation rate, or seconds.

Without a cost profile a step costs what its tier weighs (0 the low, 1 the high
one). With one it costs the seconds in which this machine reads and writes it:

    prefill by the low tier + handoff and one token by the chosen tier + its decoding
    (+ the draft, where the router decides at the draft and did not keep it)

The span handed over depends on when the tier last wrote; here it is what the
prompt has grown by, which is exact for a tier that writes every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_router.ladders.costs import CostProfile, StepTokens
from edge_router.router.feature_table import DecideAt, column, feature
from train.router.forest import Forest
from train.router.oracle import tier_weights


def by_share(forest: Forest) -> NDArray[np.float64]:
    """(rows, tiers): each tier's weight."""
    weights = np.array(tier_weights(forest.tiers))
    return np.broadcast_to(weights, (forest.size, forest.tiers))


def by_seconds(
    forest: Forest, profile: CostProfile, names: Sequence[str], decide_at: DecideAt
) -> NDArray[np.float64]:
    """(rows, tiers): seconds of the step. Raises UserError when the profile lacks a tier."""
    out = np.zeros((forest.size, forest.tiers))
    for row in np.flatnonzero(~forest.done[: forest.size]).tolist():
        prompt = _tokens(forest, row, "prompt_tokens")
        grown = max(1, _tokens(forest, row, "new_tokens"))
        draft = profile.tier(names[0]).decode(int(forest.decoded[row, 0]), prompt)
        for tier, name in enumerate(names):
            tokens = StepTokens(
                prefill=grown,
                handoff=grown if tier else 0,
                catchup=1 if tier else 0,
                decode=int(forest.decoded[row, tier]),
                prompt_tokens=prompt,
            )
            out[row, tier] = profile.step_seconds(name, tokens, reader=names[0])
            if tier and decide_at == "draft":
                out[row, tier] += draft
    return out


def _tokens(forest: Forest, row: int, name: str) -> int:
    """A feature that counts tokens, back from its scale."""
    return round(feature(name).decode(float(forest.features[row, column(name)])))
