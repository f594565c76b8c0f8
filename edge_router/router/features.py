"""From logits and text-free facts to the vector that routers read, in the order of `feature_table`.

Computed once a step, so it has to be quick beside a decode: `router.logits` goes over the
vocabulary, and here some forty numbers are put in order and scaled.

No feature but those with `of_route` depends on who wrote the earlier steps: the others follow
from the text so far, so they can be kept with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_router.router.base import Features
from edge_router.router.feature_table import (
    ALL_NAMES,
    DRAFT_FEATURES,
    NAMES,
    PROMPT_FEATURES,
    SCHEMA,
    Feature,
    column,
)
from edge_router.router.logits import TOP, Measure, TokenStats, measure


@dataclass(frozen=True)
class Wording:
    """What a draft's words have to do with what was said before (see `agent.history`)."""

    off_thought: int = 0  # things of the action that its thought does not name
    off_reply: int = 0  # things of the thought that the last reply does not name
    age: int | None = None  # things said since the action's target was named; None: it never was
    on_last: bool = False  # the thought's last thing was one of the last action's
    follows: bool = False  # its target once stood right behind the last action's target
    ahead: int = 0  # things by which its target was first named after the last action's


@dataclass(frozen=True)
class Draft:
    """The text-free facts about what the low tier wrote as the draft of a step."""

    tokens: tuple[TokenStats, ...]  # all that was sampled, the end of generation included
    action: int  # index in `tokens` at which the action begins
    repeats: int  # how often its action has been given before in this episode
    refused: int  # and how often the reply to it was "Nothing happens."
    novel: int  # tokens of its action that stand nowhere in the prompt
    wording: Wording = Wording()


@dataclass(frozen=True)
class StepContext:
    """What the episode loop tells about a step; most are features under their own names."""

    step: int  # 0-based index of the step
    max_steps: int
    prompt_tokens: int  # length of the whole prompt
    new_tokens: int  # tokens by which it is longer than the prompt of the step before
    last_refused: bool  # the last reply was "Nothing happens."
    refused_run: int  # how many replies in a row were refusals
    repeats: int  # how often the last action has been given before in this episode
    last_tier: int  # tier index of the last step, -1 on the first step
    escalated_share: float  # share of earlier steps not written by the low tier
    last_entropy: float  # the low tier's entropy (nats) before the last step; 0 at first
    dial: float  # the user's cost/quality setting in [0, 1]
    seen_replies: int = 0  # how often the last reply had been given before in this episode
    escalated_steps: int = 0  # earlier steps not written by the low tier
    last_min_p: float = 1.0  # the least probable token of the last step, for the tier that wrote it
    last_nll: float = 0.0  # mean of -ln p over the last step's tokens, for the tier that wrote it


class Encoder:
    """Scales values of some features, as `Feature.encode` does, a row or a whole matrix at once."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.names = tuple(f.name for f in features)
        self.columns = np.array([column(name) for name in self.names])  # in a vector of all
        self._least = np.array([f.least for f in features])
        self._most = np.array([f.most for f in features])
        self._per = np.array([f.per for f in features])
        self._log = np.array([f.log for f in features])

    def rows(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Numbers of shape (..., len(names)) for values of that shape."""
        kept = np.minimum(np.maximum(values, self._least), self._most)
        np.log1p(kept, out=kept, where=self._log)
        return np.asarray(kept / self._per, np.float32)

    def row(self, values: Mapping[str, float]) -> NDArray[np.float32]:
        """Numbers of shape (len(names),) for values by name; what else is in it is left out."""
        return self.rows(np.array([values[name] for name in self.names], np.float64))


_OF_THE_PROMPT, _OF_THE_DRAFT = Encoder(PROMPT_FEATURES), Encoder(DRAFT_FEATURES)


def extract(logits: NDArray[np.float32], context: StepContext) -> Features:
    """Features of a step from the low tier's logits of shape (n_vocab,), which stay as they are.

    Raises UserError when the logits hold NaN or +inf, or nothing but -inf.
    """
    return from_measure(measure(logits), context)


def from_measure(measured: Measure, context: StepContext) -> Features:
    """Features of a step whose logits have been measured: `NAMES`."""
    # The facts are features under their own names, but for the step, which is given as a share.
    values = _distribution(measured) | vars(context)
    values["step"] = context.step / max(1, context.max_steps)
    return Features(SCHEMA, NAMES, _OF_THE_PROMPT.row(values), measured)


def with_draft(features: Features, draft: Draft) -> Features:
    """The features of a step whose draft has been written: `ALL_NAMES`."""
    values = _draft(draft) | _wording(draft.wording)
    vector = np.concatenate((features.vector, _OF_THE_DRAFT.row(values)))
    return Features(features.schema, ALL_NAMES, vector)


def _distribution(measured: Measure) -> dict[str, float]:
    top, weight, entropy = measured
    p = [math.exp(logit - top[0]) / weight for logit in top] + [0.0] * (TOP - len(top))
    return {
        "entropy": entropy,
        **{f"p{rank}": chance for rank, chance in enumerate(p, 1)},
        "margin": p[0] - p[1],
        "log_odds": top[0] - top[1] if len(top) > 1 else math.inf,
        "top4_mass": sum(p),
        "effective_tokens": math.exp(entropy),
    }


def _draft(draft: Draft) -> dict[str, float]:
    tokens = draft.tokens
    nlls = [token.nll for token in tokens]
    # An empty draft (the model ended at once) still has its end of generation.
    begins = draft.action if draft.action < len(tokens) else 0
    total = sum(nlls)
    return {
        "draft_tokens": len(tokens),
        "draft_min_p": min([t.p for t in tokens], default=1.0),
        "draft_nll": total / max(1, len(tokens)),
        "draft_sum_nll": total,
        "draft_entropy": max([t.entropy for t in tokens], default=0.0),
        "draft_margin": min([t.margin for t in tokens], default=1.0),
        "action_min_p": min([t.p for t in tokens[begins:]], default=1.0),
        "action_nll": sum(nlls[begins:]),
        "draft_repeats": draft.repeats,
        "draft_refused": draft.refused,
        "draft_novel": draft.novel,
    }


def _wording(wording: Wording) -> dict[str, float]:
    age = math.inf if wording.age is None else wording.age
    return {
        "off_thought": wording.off_thought,
        "off_reply": wording.off_reply,
        "target_age": age,
        "on_last": wording.on_last,
        "follows": wording.follows,
        "ahead": wording.ahead,
    }
