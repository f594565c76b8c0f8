"""The short prompt format of the embedded household model.

ALFWorld's sentences say the same few things in many words; the embedded model
reads them in a form where almost every token carries a fact (an entity such as
"cabinet 12" is one token of its vocabulary):

    task: put a clean apple in fridge.        at countertop 1: apple 2 bread 1
    room: cabinet 2 cabinet 1 countertop 1    took apple 2 from countertop 1

It answers with a thought and an action:

    see apple 2 on countertop 1
    > take apple 2 from countertop 1

Sentences that no rule covers are passed through as they stand.
"""

from __future__ import annotations

import re

from edge_router.tasks.household.rules import REFUSED, TREATMENTS
from edge_router.tasks.household.world import ENTITY
from edge_router.tasks.parse import MARKER, Parsed, parse_step
from edge_router.tasks.protocol import Message, Opening, PromptStyle

_REPLIES = (
    (re.compile(r"You pick up the (.+) from the (.+)\."), "took {0} from {1}"),
    (re.compile(r"You move the (.+) to the (.+)\."), "moved {0} to {1}"),
    *(
        (re.compile(rf"You {verb} the (.+) using the (.+)\."), f"{verb}ed {{0}} with {{1}}")
        for verb in TREATMENTS
    ),
    (re.compile(r"You turn on the (.+)\."), "used {0}"),
    (re.compile(r"You close the (.+)\."), "at {0}: closed"),
    (re.compile(re.escape(REFUSED)), "nothing happens"),
)


class HouseholdStyle(PromptStyle):
    """The embedded model's short format."""

    name = "household"
    max_tokens = 96
    stop: tuple[str, ...] = ()

    def opening(self, opening: Opening) -> list[Message]:
        return [{"role": "user", "content": compact_opening(opening)}]

    def reply(self, observation: str) -> Message:
        return {"role": "user", "content": compact(observation)}

    def parse(self, text: str) -> Parsed:
        return parse_step(text)


def compact_opening(opening: Opening) -> str:
    """The first user message: the goal and the receptacles in the order they are listed."""
    room = " ".join(ENTITY.findall(opening.observation))
    return f"task: {opening.goal}\nroom: {room}"


def compact(observation: str) -> str:
    """A reply of the environment in the short format."""
    text = observation.strip()
    for pattern, form in _REPLIES:
        match = pattern.fullmatch(text)
        if match:
            return form.format(*match.groups())
    if text.startswith("You are facing"):
        return text
    if text.endswith("is closed."):
        place = ENTITY.findall(text)
        return f"at {place[0]}: closed" if place else text
    head, see, tail = text.partition("you see ")
    place = ENTITY.findall(head)
    if not see or not place:
        return text
    return f"at {place[0]}: " + (" ".join(ENTITY.findall(tail)) or "nothing")


def step_text(thought: str, action: str) -> str:
    """What the model is trained to write for a step."""
    return f"{thought}{MARKER} {action}"
