"""A router maps what is known before a step to the tier that writes it.

`Features` are computed once a step by `router.features`; a router only reads
them. `Decision.reason` is a short phrase a person understands, shown by every
listener ("entropy 1.32 >= 0.80").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

DecideAt = Literal["prompt", "draft"]


@dataclass(frozen=True)
class TokenStats:
    """How sure a tier was of one token it wrote."""

    p: float  # probability of the token, at temperature 1
    entropy: float  # of the distribution it came from, nats
    margin: float  # probability of the likeliest token less that of the next


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


@dataclass(frozen=True)
class Wording:
    """What a draft's words have to do with what was said before (see `agent.wording`)."""

    off_thought: int = 0  # things of the action that its thought does not name
    off_reply: int = 0  # things of the thought that the last reply does not name
    age: int | None = None  # things said since the action's target was named; None: it never was
    on_last: bool = False  # the thought's last thing was one of the last action's
    follows: bool = False  # its target once stood right behind the last action's target
    ahead: int = 0  # things by which its target was first named after the last action's


@dataclass(frozen=True)
class Draft:
    """The text-free facts about what the cheapest tier wrote for a step on trial."""

    tokens: tuple[TokenStats, ...]  # all that was sampled, the end of generation included
    action: int  # index in `tokens` at which the action begins
    repeats: int  # how often its action has been given before in this episode
    refused: int  # and how often the reply to it was "Nothing happens."
    novel: int  # tokens of its action that stand nowhere in the prompt
    wording: Wording = Wording()


@dataclass(frozen=True)
class StepContext:
    """The text-free facts about a step that the loop hands to the feature extractor."""

    step: int  # 0-based index of the step
    max_steps: int
    prompt_tokens: int  # length of the whole prompt
    new_tokens: int  # tokens by which it is longer than the prompt of the step before
    last_refused: bool  # the last reply was "Nothing happens."
    refused_run: int  # how many replies in a row were refusals
    repeats: int  # how often the last action has been given before in this episode
    last_tier: int  # tier index of the last step, -1 on the first step
    dear_share: float  # share of earlier steps not written by the cheapest tier
    last_entropy: float  # the cheapest tier's entropy (nats) before the last step; 0 at first
    dial: float  # the user's cost/quality setting in [0, 1]
    seen_replies: int = 0  # how often the last reply had been given before in this episode
    dear_steps: int = 0  # earlier steps not written by the cheapest tier
    last_min_p: float = 1.0  # the least probable token of the last step, for the tier that wrote it
    last_nll: float = 0.0  # mean of -ln p over the last step's tokens, for the tier that wrote it


@dataclass(frozen=True)
class Features:
    """One step's features: `vector` follows `names`, both fixed by `schema`."""

    schema: str  # e.g. "edge-router/features/3"
    names: tuple[str, ...]
    vector: NDArray[np.float32]  # shape (len(names),)
    measure: Measure | None = None  # of the logits before the step, where they were measured

    def __getitem__(self, name: str) -> float:
        return float(self.vector[self.names.index(name)])


@dataclass(frozen=True)
class Decision:
    """The router's choice for one step.

    Routers that compare a number with limits tell both, so that a listener can
    draw them: tier i is chosen from `score` >= `thresholds[i - 1]` on.
    """

    tier: int  # index into the ladder, 0 = cheapest
    reason: str
    probability: float | None = None  # of needing a dearer tier, where the router has one
    score: float | None = None  # the cheapest tier's doubt, in the router's own unit
    thresholds: tuple[float, ...] = ()  # ascending, in the unit of `score`
    forced: bool = False  # a person overruled the router


class Router(Protocol):
    """Maps features to a tier. `spec` is the string that builds it again ("entropy:0.8").

    A router may have an attribute `decide_at` (see the function of that name): with "draft" it
    is asked after the cheapest tier has written the step on trial, with features of that text.
    """

    spec: str

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        """Called at the start of every episode with the ladder's tier names, cheapest first."""
        ...

    def decide(self, features: Features) -> Decision: ...


def decide_at(router: Router) -> DecideAt:
    """When a router wants to be asked: before any token is written, unless it says otherwise."""
    return "draft" if getattr(router, "decide_at", "prompt") == "draft" else "prompt"


def router_name(spec: str) -> str:
    """A router's spec; of the path to a trained one only folder and file: all that has room."""
    kind, _, path = spec.partition(":")
    return f"{kind}:{'/'.join(PurePath(path).parts[-2:])}" if kind == "onnx" else spec
