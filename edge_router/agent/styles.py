"""How a task is put to a model: the messages of an episode, and how its answer is read.

ladder.toml names the style (`prompt = "react"`), and so may a GGUF, in the
metadata key `edge_router.prompt_style`. Our embedded model says "household";
every other model is taken for a general instruct model and gets "react".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from edge_router.errors import UserError
from edge_router.tasks.alfworld.household_prompt import compact, compact_opening
from edge_router.tasks.alfworld.react_prompt import Message, opening_messages
from edge_router.tasks.parse import Parsed, parse_step
from edge_router.tasks.protocol import Opening

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


class ReactStyle:
    """For general instruct models: rules, a worked game of the task's type, then the game."""

    name = "react"
    max_tokens = 96
    # a step is over where the model begins to write the environment's part
    stop: tuple[str, ...] = ("\nYou ", "\nOn the ", "\nNothing happens", "\n\n\n")

    def opening(self, opening: Opening) -> list[Message]:
        return opening_messages(opening)

    def reply(self, observation: str) -> Message:
        return {"role": "user", "content": observation}

    def parse(self, text: str) -> Parsed:
        return parse_step(text)


STYLES: Final[dict[str, type[PromptStyle]]] = {
    style.name: style for style in (HouseholdStyle, ReactStyle)
}


def prompt_override(prompt: str, files: Sequence[dict[str, str]]) -> str:
    """`prompt`, or "" where every file's metadata asks for that style by itself.

    Results that are kept by what they depend on are then found again whether a ladder names its
    model's own style or leaves it out. Raises `UserError` for a style that there is not.
    """
    if prompt and all(style_for(m).name == style_for(m, prompt).name for m in files):
        return ""
    return prompt


def style_for(metadata: dict[str, str], prompt: str = "") -> PromptStyle:
    """The style called `prompt`; "" is the one that the GGUF asks for. Raises `UserError`."""
    name = prompt or metadata.get(METADATA_KEY, ReactStyle.name)
    if name not in STYLES:
        raise UserError(f"there is no prompt style {name!r}; styles are {', '.join(STYLES)}")
    return STYLES[name]()
