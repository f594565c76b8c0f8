"""What a router may know before a step, as one short vector of numbers with a version.

Computed once a step from the cheapest tier's next-token logits and the
text-free facts of the episode, so it has to be cheap beside a decode: two or
three passes over the vocabulary, no sort, no Python loop over tokens; the light
tail of a large vocabulary is estimated from a sample of it. Routers
are trained on these numbers; if the meaning, order or scale of one changes,
`SCHEMA` gets a new number and older ONNX routers are refused.

    name              meaning
    entropy           of the next token's distribution at temperature 1, nats
    p1 p2 p3 p4       the four largest probabilities, 0 where there are fewer tokens
    margin            p1 - p2
    log_odds          ln(p1 / p2), nats, at most 30
    top4_mass         p1 + p2 + p3 + p4
    effective_tokens  e^entropy: how many equally likely tokens would be as uncertain
    step              index of the step / max_steps, 0 at first
    prompt_tokens     length of the whole prompt, thousands of tokens
    new_tokens        tokens the prompt has grown by since the step before, hundreds
    last_refused      1 when the last reply was "Nothing happens.", else 0
    refused_run       refusals in a row up to now / 5, at most 1
    repeats           earlier uses of the last action in this episode / 5, at most 1
    last_tier         tier index of the last step, -1 on the first step
    dear_share        share of earlier steps not written by the cheapest tier
    last_entropy      `entropy` of the step before, nats, 0 at first
    dial              the user's cost (0) / quality (1) setting
    seen_replies      how often the last reply had been given before / 5, at most 1
    dear_steps        earlier steps not written by the cheapest tier / 10
    last_min_p        probability of the last step's least probable token, for the tier that
                      wrote it; 1 at first
    last_nll          mean -ln p of the last step's tokens, nats, for the tier that wrote it

A router that decides at the draft reads more: what the cheapest tier wrote on trial.

    draft_tokens      its length, tens of tokens
    draft_min_p       probability of its least probable token
    draft_nll         mean -ln p of its tokens, nats
    draft_sum_nll     sum of -ln p, nats, at most 10
    draft_entropy     largest entropy before one of its tokens, nats
    draft_margin      least p1 - p2 before one of its tokens
    action_min_p      draft_min_p over the tokens of the action alone
    action_nll        sum of -ln p over them, nats, at most 10
    draft_repeats     earlier uses of its action in this episode / 5, at most 1
    draft_refused     refusals of its action in this episode / 5, at most 1
    draft_novel       tokens of its action that stand nowhere in the prompt / 4, at most 1

and what its words have to do with what was said before ("things" and the action's target as in
`agent.wording`).

    off_thought       things of the action that its thought does not name / 4, at most 1
    off_reply         things of the thought that the last reply does not name / 4, at most 1
    target_age        ln(1 + things said since its target was last named) / 5, at most 1.25,
                      which is also what a target that was never named gets
    on_last           1 when the thought's last thing was one of the last action's, else 0
    follows           1 when its target once stood right behind the last action's target, as in
                      a list that is worked through, else 0
    ahead             things by which its target was first named after the last action's / 4,
                      from -1 to 1; 0 where one of them never was

No feature but last_tier, dear_share, dear_steps, last_min_p, last_nll and dial depends on who
wrote the earlier steps: the others follow from the text so far, so they can be kept with it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_router.errors import UserError
from edge_router.router.base import Draft, Features, Measure, StepContext, TokenStats, Wording

SCHEMA = "edge-router/features/3"
NAMES: tuple[str, ...] = (
    "entropy",
    "p1",
    "p2",
    "p3",
    "p4",
    "margin",
    "log_odds",
    "top4_mass",
    "effective_tokens",
    "step",
    "prompt_tokens",
    "new_tokens",
    "last_refused",
    "refused_run",
    "repeats",
    "last_tier",
    "dear_share",
    "last_entropy",
    "dial",
    "seen_replies",
    "dear_steps",
    "last_min_p",
    "last_nll",
)
DRAFT_NAMES: tuple[str, ...] = (
    "draft_tokens",
    "draft_min_p",
    "draft_nll",
    "draft_sum_nll",
    "draft_entropy",
    "draft_margin",
    "action_min_p",
    "action_nll",
    "draft_repeats",
    "draft_refused",
    "draft_novel",
    "off_thought",
    "off_reply",
    "target_age",
    "on_last",
    "follows",
    "ahead",
)
ALL_NAMES = NAMES + DRAFT_NAMES
# Features that depend on who wrote the earlier steps, or on the user.
ROUTE_NAMES = ("last_tier", "dear_share", "dial", "dear_steps", "last_min_p", "last_nll")
TOP = 4
LOG_ODDS_CAP = 30.0
RUN_CAP = 5
NOVEL_CAP = 4
OFF_CAP = 4
AHEAD_CAP = 4
NEVER = 1.25  # ln(1 + 500) / 5, nearly: further back makes no difference
NLL_CAP = 10.0
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


class FeatureExtractor:
    """Extracts features for one vocabulary size, in memory of its own (not for several threads)."""

    def __init__(self, n_vocab: int) -> None:
        self.n_vocab = n_vocab
        self._lanes = n_vocab // LANE if n_vocab > SMALL else 0
        self._cut = self._lanes * LANE  # the rest, fewer than LANE tokens, is always kept
        self._cutoff = math.log(max(1, n_vocab)) + SLACK
        self._maxima = np.empty(self._lanes, np.float32)
        self._scratch = np.empty(n_vocab, np.float32)
        self._ones = np.ones(LANE, np.float32)

    def extract(self, logits: NDArray[np.float32], context: StepContext) -> Features:
        """Features of a step from logits of shape (n_vocab,); the logits are not changed.

        Raises UserError when the logits hold NaN or +inf, or nothing but -inf.
        """
        return self.features(self.measure(logits), context)

    def measure(self, logits: NDArray[np.float32]) -> Measure:
        """The pass over logits of shape (n_vocab,) that features rest on. Raises as above."""
        logits = np.ascontiguousarray(logits, dtype=np.float32)
        if logits.shape != (self.n_vocab,):
            raise ValueError(f"logits of shape {logits.shape}, not ({self.n_vocab},)")
        return Measure(*self._measure(logits))

    def features(self, measure: Measure, context: StepContext) -> Features:
        """Features of a step whose logits have been measured."""
        top, weight, entropy = measure
        p = [math.exp(logit - top[0]) / weight for logit in top] + [0.0] * (TOP - len(top))
        gap = top[0] - top[1] if len(top) > 1 else LOG_ODDS_CAP
        distribution = (
            *(entropy, *p, p[0] - p[1], min(gap, LOG_ODDS_CAP)),
            *(min(1.0, sum(p)), math.exp(entropy)),
        )
        vector = np.array((*distribution, *_facts(context)), dtype=np.float32)
        return Features(SCHEMA, NAMES, vector, measure)

    def _measure(self, logits: NDArray[np.float32]) -> tuple[list[float], float, float]:
        """(largest logits in descending order, sum of e^(logit - largest), entropy in nats)."""
        if not self._lanes:
            top = _largest(logits)
            return top, *_shifted(logits, top[0])
        table, rest = logits[: self._cut].reshape(LANE, self._lanes), logits[self._cut :]
        maxima = np.maximum.reduce(table, axis=0, out=self._maxima)
        largest = maxima.max()
        if len(rest):
            largest = np.maximum(largest, rest.max())
        largest = _finite(float(largest))
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
            "the cheapest tier's logits are not finite numbers: its GGUF is damaged or its "
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


def _facts(context: StepContext) -> tuple[float, ...]:
    """The step's facts in the order and scale of the table above."""
    return (
        context.step / max(1, context.max_steps),
        context.prompt_tokens / 1000.0,
        context.new_tokens / 100.0,
        float(context.last_refused),
        min(context.refused_run, RUN_CAP) / RUN_CAP,
        min(context.repeats, RUN_CAP) / RUN_CAP,
        float(context.last_tier),
        context.dear_share,
        context.last_entropy,
        context.dial,
        min(context.seen_replies, RUN_CAP) / RUN_CAP,
        context.dear_steps / 10.0,
        context.last_min_p,
        context.last_nll,
    )


def confidence(tokens: Sequence[TokenStats]) -> tuple[float, float]:
    """(least probability, mean of -ln p) of the tokens; (1, 0) where there are none."""
    if not tokens:
        return 1.0, 0.0
    return min(t.p for t in tokens), sum(map(_nll, tokens)) / len(tokens)


def with_draft(features: Features, draft: Draft) -> Features:
    """The features of a step whose draft has been written: `ALL_NAMES`."""
    tokens = draft.tokens
    nlls = list(map(_nll, tokens))
    # An empty draft (the model ended at once) still has its end of generation.
    begins = draft.action if draft.action < len(tokens) else 0
    total = sum(nlls)
    told = (
        len(tokens) / 10.0,
        min([t.p for t in tokens], default=1.0),
        total / max(1, len(tokens)),
        min(NLL_CAP, total),
        max([t.entropy for t in tokens], default=0.0),
        min([t.margin for t in tokens], default=1.0),
        min([t.p for t in tokens[begins:]], default=1.0),
        min(NLL_CAP, sum(nlls[begins:])),
        min(draft.repeats, RUN_CAP) / RUN_CAP,
        min(draft.refused, RUN_CAP) / RUN_CAP,
        min(draft.novel, NOVEL_CAP) / NOVEL_CAP,
        *_wording(draft.wording),
    )
    vector = np.concatenate((features.vector, np.array(told, np.float32)))
    return Features(features.schema, ALL_NAMES, vector)


def _wording(wording: Wording) -> tuple[float, ...]:
    """In the order and scale of the table above."""
    age = NEVER if wording.age is None else min(NEVER, math.log1p(wording.age) / 5.0)
    return (
        min(wording.off_thought, OFF_CAP) / OFF_CAP,
        min(wording.off_reply, OFF_CAP) / OFF_CAP,
        age,
        float(wording.on_last),
        float(wording.follows),
        max(-AHEAD_CAP, min(AHEAD_CAP, wording.ahead)) / AHEAD_CAP,
    )


def _nll(token: TokenStats) -> float:
    return -math.log(max(token.p, P_FLOOR))


_local = threading.local()


def extractor_for(n_vocab: int) -> FeatureExtractor:
    """This thread's extractor, kept while the vocabulary stays."""
    extractor: FeatureExtractor | None = getattr(_local, "extractor", None)
    if extractor is None or extractor.n_vocab != n_vocab:
        extractor = _local.extractor = FeatureExtractor(n_vocab)
    return extractor


def extract(logits: NDArray[np.float32], context: StepContext) -> Features:
    """`FeatureExtractor.extract` with this thread's extractor."""
    return extractor_for(len(logits)).extract(logits, context)
