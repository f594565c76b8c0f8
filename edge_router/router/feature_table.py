"""What a router may know of a step: one table, which everybody asks.

A feature has a value, in its unit, and the number that routers read: the value cut at `least` and
`most` and divided by `per`, so that the numbers of all features have about the same size
(`encode`, and `decode` for the way back). Routers are trained on these numbers, in this order. If
the meaning, order or scale of one changes, `SCHEMA` gets a new version and older ONNX routers are
refused; if only names change, `RENAMED` reads the older ones.

The first part is known when the prompt has been read. `DRAFT_FEATURES` are known once the low
tier has written the step as a draft; routers that decide then read all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

SCHEMA: Final = "edge-router/features/4"
# Older schemas with the same numbers in the same order, and what was called differently then.
RENAMED: Final = {
    "edge-router/features/3": {"dear_share": "escalated_share", "dear_steps": "escalated_steps"}
}
# The first schema with these numbers. What was computed under it is still right.
SAME_NUMBERS_SINCE: Final = "edge-router/features/3"

DecideAt = Literal["prompt", "draft"]
Kind = Literal["certainty", "doubt", "fact"]


@dataclass(frozen=True)
class Feature:
    """One thing that a router may know, and how it is scaled."""

    name: str
    doc: str
    unit: str
    per: float = 1.0
    least: float = -math.inf  # what lies below counts as this
    most: float = math.inf  # what lies above counts as this
    log: bool = False  # of 1 + the value, before it is divided
    kind: Kind = "fact"  # certainty: mostly nearly 1; doubt: mostly nearly 0
    of_route: bool = False  # depends on who wrote the earlier steps, or on the user

    def encode(self, value: float) -> float:
        """The number that routers read."""
        kept = min(max(value, self.least), self.most)
        return (math.log1p(kept) if self.log else kept) / self.per

    def decode(self, number: float) -> float:
        """The value behind a number; `most` where that or more was encoded."""
        value = number * self.per
        return math.expm1(value) if self.log else value


def _certainty(name: str, doc: str, *, of_route: bool = False) -> Feature:
    return Feature(name, doc, "probability", kind="certainty", of_route=of_route)


def _doubt(
    name: str, doc: str, unit: str = "nats", *, most: float = math.inf, of_route: bool = False
) -> Feature:
    return Feature(name, doc, unit, most=most, kind="doubt", of_route=of_route)


def _count(name: str, doc: str, unit: str = "times", *, most: int = 5) -> Feature:
    """A number of things, of which more than `most` make no difference."""
    return Feature(name, doc, unit, per=most, most=most)


def _yes(name: str, doc: str) -> Feature:
    return Feature(name, doc, "1 yes, 0 no")


PROMPT_FEATURES: Final = (
    # The low tier's next-token distribution, at temperature 1.
    _doubt("entropy", "of the next token's distribution"),
    _certainty("p1", "the largest probability"),
    _doubt("p2", "the second largest, 0 where there are fewer tokens", "probability"),
    _doubt("p3", "the third", "probability"),
    _doubt("p4", "the fourth", "probability"),
    _certainty("margin", "p1 - p2"),
    Feature("log_odds", "ln(p1 / p2)", "nats", most=30.0),
    Feature("top4_mass", "p1 + p2 + p3 + p4", "probability", most=1.0, kind="certainty"),
    Feature("effective_tokens", "e^entropy: so many equally likely ones are as unsure", "tokens"),
    # The episode so far.
    Feature("step", "index of the step / the most there can be, 0 at first", "share"),
    Feature("prompt_tokens", "length of the whole prompt", "tokens", per=1000.0),
    Feature("new_tokens", "what it has grown by since the step before", "tokens", per=100.0),
    _yes("last_refused", "whether the last command was refused"),
    _count("refused_run", "refusals in a row up to now"),
    _count("repeats", "earlier uses of the last action in this episode"),
    Feature("last_tier", "who wrote the last step, -1 at first", "tier", of_route=True),
    Feature("escalated_share", "earlier steps above the low tier", "share", of_route=True),
    _doubt("last_entropy", "`entropy` of the step before, 0 at first"),
    Feature("dial", "the user's setting: 0 cost, 1 quality", "share", of_route=True),
    _count("seen_replies", "how often the last reply had been given before"),
    Feature("escalated_steps", "earlier steps above the low tier", "steps", 10.0, of_route=True),
    _certainty("last_min_p", "least sure token of the last step, to its writer", of_route=True),
    _doubt("last_nll", "mean -ln p of the last step's tokens, to their writer", of_route=True),
)
DRAFT_FEATURES: Final = (
    # The draft's tokens, to the low tier that wrote them.
    Feature("draft_tokens", "length of the draft", "tokens", per=10.0),
    _certainty("draft_min_p", "its least probable token"),
    _doubt("draft_nll", "mean -ln p of its tokens"),
    _doubt("draft_sum_nll", "sum of -ln p", most=10.0),
    _doubt("draft_entropy", "largest entropy before one of its tokens"),
    _certainty("draft_margin", "least p1 - p2 before one of its tokens"),
    _certainty("action_min_p", "`draft_min_p` over the tokens of the action alone"),
    _doubt("action_nll", "sum of -ln p over them", most=10.0),
    _count("draft_repeats", "earlier uses of its action in this episode"),
    _count("draft_refused", "refusals of its action in this episode"),
    _count("draft_novel", "tokens of its action that are nowhere in the prompt", "tokens", most=4),
    # What its words have to do with what was said before; "things" as in `agent.history`.
    _count("off_thought", "of its action, that its thought does not name", "things", most=4),
    _count("off_reply", "of its thought, that the last reply does not name", "things", most=4),
    Feature(
        "target_age",
        "said since its action's target was last named, the most where it never was",
        "things",
        per=5.0,
        most=math.expm1(6.25),  # 517: further back makes no difference
        log=True,
    ),
    _yes("on_last", "whether its thought's last thing was one of the last action's"),
    _yes("follows", "whether its target once stood right behind the last action's target"),
    Feature(
        "ahead",
        "by which its target was first named after the last action's, 0 where one never was",
        "things",
        per=4.0,
        least=-4.0,
        most=4.0,
    ),
)
FEATURES: Final = PROMPT_FEATURES + DRAFT_FEATURES
NAMES: Final = tuple(feature.name for feature in PROMPT_FEATURES)
ALL_NAMES: Final = tuple(feature.name for feature in FEATURES)
_COLUMNS: Final = {name: column for column, name in enumerate(ALL_NAMES)}


def column(name: str) -> int:
    """Where a feature stands in a vector. Raises KeyError where there is none of that name."""
    return _COLUMNS[name]


def feature(name: str) -> Feature:
    """The feature of that name. Raises KeyError where there is none."""
    return FEATURES[column(name)]


def names_at(decide_at: DecideAt) -> tuple[str, ...]:
    """What a router reads that is asked then, in order."""
    return ALL_NAMES if decide_at == "draft" else NAMES


def names_now(names: Iterable[str], schema: str) -> tuple[str, ...]:
    """What features of an older schema are called today. Raises KeyError for one not read."""
    renamed = {} if schema == SCHEMA else RENAMED[schema]
    return tuple(renamed.get(name, name) for name in names)
