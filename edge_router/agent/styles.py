"""How a task is put to a model: the messages of an episode, and how its answer is read.

A GGUF names its style in the metadata key `edge_router.prompt_style`. Our
embedded model says "household"; every other model is taken for a general
instruct model and gets "react": rules and one worked example.
"""

from __future__ import annotations

from typing import Protocol

from edge_router.agent.household_style import compact, compact_opening
from edge_router.agent.parse import Parsed, parse_step
from edge_router.tasks.base import Opening

Message = dict[str, str]  # {"role": ..., "content": ...}, as chat templates want them
METADATA_KEY = "edge_router.prompt_style"


class PromptStyle(Protocol):
    """`stop` ends a step early; `max_tokens` bounds it."""

    name: str
    max_tokens: int
    stop: tuple[str, ...]

    def opening(self, opening: Opening) -> list[Message]: ...

    def reply(self, observation: str) -> Message: ...

    def parse(self, text: str) -> Parsed: ...


class HouseholdStyle:
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


_RULES = """\
You play a household game by giving one command a turn. Commands:
go to X, open X, close X, take X from Y, move X to Y, examine X, use X, \
heat X with Y, clean X with Y, cool X with Y, inventory, look.
Name things exactly as they are listed, with their number ("cabinet 3"). \
You can hold one thing. Closed places must be opened before you can see or take what is inside. \
"Nothing happens." means that the command was not possible.
Answer every turn with one short thought and one command, like this:

Search the likely places first.
> go to countertop 1"""

_EXAMPLE: tuple[tuple[str, str], ...] = (
    (
        "You are in the middle of a room. Looking quickly around you, you see a cabinet 2, "
        "a cabinet 1, a countertop 1, a fridge 1, a microwave 1, and a sinkbasin 1.\n"
        "Your task is to: put a hot mug in cabinet.",
        "A mug is often on the countertop.\n> go to countertop 1",
    ),
    (
        "You arrive at countertop 1. On the countertop 1, you see a knife 1, and a mug 2.",
        "There is mug 2; I take it.\n> take mug 2 from countertop 1",
    ),
    (
        "You pick up the mug 2 from the countertop 1.",
        "It must be heated first.\n> go to microwave 1",
    ),
    (
        "You arrive at microwave 1. The microwave 1 is closed.",
        "I can heat without opening it.\n> heat mug 2 with microwave 1",
    ),
    ("You heat the mug 2 using the microwave 1.", "Now to a cabinet.\n> go to cabinet 1"),
    (
        "You arrive at cabinet 1. The cabinet 1 is closed.",
        "I have to open it.\n> open cabinet 1",
    ),
    (
        "You open the cabinet 1. The cabinet 1 is open. In it, you see nothing.",
        "I put the mug in.\n> move mug 2 to cabinet 1",
    ),
)


class ReactStyle:
    """For general instruct models: rules and one worked example in a first message."""

    name = "react"
    max_tokens = 96
    # a step is over where the model begins to write the environment's part
    stop: tuple[str, ...] = ("\nYou ", "\nOn the ", "\nNothing happens", "\n\n\n")

    def opening(self, opening: Opening) -> list[Message]:
        example = "\n".join(f"{seen}\n{said}" for seen, said in _EXAMPLE)
        start = f"{opening.observation}\nYour task is to: {opening.task}"
        text = f"{_RULES}\n\nAn example of a whole game:\n\n{example}\n\nNow your game.\n\n{start}"
        return [{"role": "user", "content": text}]

    def reply(self, observation: str) -> Message:
        return {"role": "user", "content": observation}

    def parse(self, text: str) -> Parsed:
        return parse_step(text)


def style_for(metadata: dict[str, str]) -> PromptStyle:
    """The style a GGUF asks for."""
    return HouseholdStyle() if metadata.get(METADATA_KEY) == "household" else ReactStyle()
