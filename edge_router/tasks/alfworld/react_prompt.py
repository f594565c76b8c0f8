"""The ReAct prompt of general instruct models: thought and action in turns, one game shown.

The first message holds the rules and the opening of a worked game of the same
type; that game's steps follow as turns of the chat, and the last turn
opens the real game. So a model sees the form it has to write in its own chat
template, in the role it will have. The worked games are our own
(react_examples.json, written by tools/react_examples.py); no official game is
among them. After ReAct, arXiv 2210.03629, whose prompts show two games a type
as one text; turns are what chat models are trained on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from edge_router.tasks.household.expert import understand
from edge_router.tasks.household.rules import SIMPLE, TREATMENTS
from edge_router.tasks.parse import MARKER, Parsed, parse_step
from edge_router.tasks.protocol import Message, Opening, PromptStyle

EXAMPLES_FILE: Final = Path(__file__).with_name("react_examples.json")

RULES: Final = """\
You play a household game by giving one command a turn. Commands:
go to X, open X, close X, take X from Y, move X to Y, examine X, use X, \
heat X with Y, clean X with Y, cool X with Y, inventory, look.
Name things exactly as they are listed, with their number ("cabinet 3"). \
You can hold one thing. Closed places must be opened before you can see or take what is inside. \
"Nothing happens." means that the command was not possible.
Answer every turn with one short thought and then one command on a line of its own \
that begins with ">"."""


class ReactStyle(PromptStyle):
    """For general instruct models: rules, a worked game of the same type, then the game."""

    name = "react"
    max_tokens = 96
    # a step is over where the model begins to write the environment's part
    stop: tuple[str, ...] = ("\nYou ", "\nOn the ", "\nNothing happens", "\n\n\n")

    def opening(self, opening: Opening) -> list[Message]:
        return opening_messages(opening)

    def shared(self, opening: Opening) -> list[Message]:
        *before, last = opening_messages(opening)
        return [*before, _user(last["content"].removesuffix(_start(opening)))]

    def reply(self, observation: str) -> Message:
        return _user(observation)

    def parse(self, text: str) -> Parsed:
        return parse_step(text)


@dataclass(frozen=True)
class ExampleStep:
    """`thought` is a sentence, `short` the same in the embedded model's form."""

    thought: str
    short: str
    action: str
    observation: str


@dataclass(frozen=True)
class Example:
    """A whole game that was won."""

    kind: str
    opening: Opening
    steps: tuple[ExampleStep, ...]


@cache
def examples(kind: str) -> tuple[Example, ...]:
    """The worked games of a type: the first is shown, the others are kept for measuring."""
    data: list[dict[str, Any]] = json.loads(EXAMPLES_FILE.read_text(encoding="utf-8"))
    return tuple(
        Example(
            kind,
            Opening(game["observation"], game["goal"]),
            tuple(ExampleStep(**step) for step in game["steps"]),
        )
        for game in data
        if game["kind"] == kind
    )


def kind_of_goal(goal: str) -> str:
    """The type of the games with such a goal; the simplest one for a sentence of another kind."""
    try:
        return understand(goal).kind.name
    except ValueError:
        return SIMPLE.name


def opening_messages(opening: Opening) -> list[Message]:
    """Rules, worked game and the real game's opening, as turns of a chat."""
    example = examples(kind_of_goal(opening.goal))[0]
    messages = [_user(f"{RULES}\n\n{_start(example.opening)}")]
    for step in example.steps:
        messages.append({"role": "assistant", "content": f"{step.thought}{MARKER} {step.action}"})
        messages.append(_user(step.observation))
    last = messages[-1]["content"]
    messages[-1] = _user(f"{last}\nThe task is done. Here is a new game.\n\n{_start(opening)}")
    return messages


def rules_messages(opening: Opening) -> list[Message]:
    """Rules and opening without a worked game, which would be read with every game."""
    return [_user(f"{RULES}\n\n{_start(opening)}")]


def _start(opening: Opening) -> str:
    return f"{opening.observation}\nYour task is to: {opening.goal}"


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


# -- the expert's thoughts -----------------------------------------------------------------------
# The worked games in prompts are written with these, and so are the games that an importance
# matrix is measured on.


def sentence(thought: str, action: str, wanted: str) -> str:
    """The expert's thought before `action` as a person would say it."""
    words = thought.split()
    verb, places = action.split()[0], action.removeprefix("go to ")
    if thought.startswith("plan:"):
        return f"I have to find a {wanted} first. {places} is a likely place for it."
    if thought.startswith("closed"):
        return f"{' '.join(words[1:])} is closed, so I open it."
    if thought.startswith("no "):
        return f"There is no {words[1]} here. I look at {places} next."
    if thought.startswith("see "):
        item, place = " ".join(words[1:3]), " ".join(words[4:])
        return {
            "take": f"There is {item}, which I need. I take it.",
            "use": f"{item} is here. I turn it on.",
            "open": f"{place} is closed, so I open it.",
        }.get(verb, f"I saw {item} at {place}, so I go there.")
    if words[0] in TREATMENTS:
        item, station = " ".join(words[1:3]), " ".join(words[4:])
        if verb == "go":
            return f"I have {item}. It must be {words[0]}ed, so I go to {station}."
        return f"I {words[0]} {item} here."
    if thought.startswith("bring"):
        item, place = " ".join(words[1:3]), " ".join(words[4:])
        return {
            "go": f"{item} is ready. I bring it to {place}.",
            "open": f"{place} is closed, so I open it.",
        }.get(verb, f"I am at {place}. I put {item} down here.")
    raise ValueError(f"a thought without a sentence: {thought!r}")
