"""The text-free facts about a step and its draft, from which the features are computed."""

from __future__ import annotations

from dataclasses import dataclass

from edge_router.router.logits import TokenStats


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
