"""What a step costs the router while it is trained: its escalation rate, or seconds.

Without a cost profile a step costs what its tier weighs (0 the low, 1 the high
one). With one it costs the seconds in which this machine reads and writes it:

    prefill by the low tier + handoff
      + the prompt's tokens that the chosen tier reads itself, and its decoding, or, where the
        router decides at the draft: the draft by the low tier + verification, together with
        those tokens, + decoding what the draft did not have

The span handed over, or read with `--kv exact`, depends on when the tier last wrote; here it is
what the prompt has grown by, which is right for a tier that writes every step. With `exact` a tier
that seldom writes has more to read than that, and escalating costs more than GRPO is told; the
tables (`table`) count what was read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.tier import KvMode
from edge_router.ladders.costs import CostProfile, StepTokens
from edge_router.router.feature_table import DecideAt, column, feature
from train.router.forest import Forest
from train.router.labels import tier_weights


def by_share(forest: Forest, known: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """(rows, tiers): each tier's weight; nothing that is `known` makes that quicker."""
    weights = np.array(tier_weights(forest.tiers))
    return np.broadcast_to(weights, (forest.size, forest.tiers))


def by_seconds(
    forest: Forest,
    known: NDArray[np.float64] | None = None,
    *,
    profile: CostProfile,
    names: Sequence[str],
    decide_at: DecideAt,
    kv: KvMode,
) -> NDArray[np.float64]:
    """(rows, tiers): seconds of the step. Raises UserError when the profile lacks a tier.

    `known` (earlier rows, tiers) is what this returned when the forest was smaller. A row never
    changes once it is there, so only those behind are computed.
    """
    out, first = np.zeros((forest.size, forest.tiers)), 0
    if known is not None:
        first = len(known)
        out[:first] = known
    for row in (first + np.flatnonzero(~forest.done[first : forest.size])).tolist():
        prompt = _tokens(forest, row, "prompt_tokens")
        grown = max(1, _tokens(forest, row, "new_tokens"))
        for tier, name in enumerate(names):
            tokens = StepTokens(
                prefill=grown,
                handoff=grown if tier and not kv.exact else 0,
                prompt_tokens=prompt,
                **_writing(forest, row, tier, decide_at, own_tokens(kv, prompt, prompt - grown)),
            )
            out[row, tier] = profile.step_seconds(name, tokens, reader=names[0])
    return out


def own_tokens(kv: KvMode, prompt: int, held: int) -> int:
    """Prompt tokens that a higher tier reads itself, if its cache holds `held` of them."""
    return prompt - held if kv.exact else min(prompt, kv.own)


def _writing(forest: Forest, row: int, tier: int, decide_at: DecideAt, own: int) -> dict[str, int]:
    """Tokens of a step's text by the stage that they are in; a higher tier reads `own` first."""
    decoded = int(forest.decoded[row, tier])
    if tier == 0:
        return {"decode": decoded}
    if decide_at == "prompt":
        return {"catchup": own, "decode": decoded}
    draft, accepted = int(forest.decoded[row, 0]), int(forest.accepted[row, tier])
    return {"draft": draft, "verify": own + draft, "decode": max(0, decoded - accepted)}


def _tokens(forest: Forest, row: int, name: str) -> int:
    """A feature that counts tokens, back from its scale."""
    return round(feature(name).decode(float(forest.features[row, column(name)])))
