"""Whole games as the chats that an agent would have had: what a conversion reads.

The shipped games, played by the scripted expert, are what an importance matrix is measured on;
worked games that no prompt shows are what a tier is compared with F16 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edge_router.tasks.alfworld.game_files import GENERATED, split_games
from edge_router.tasks.alfworld.react_prompt import (
    ReactStyle,
    examples,
    rules_messages,
    sentence,
)
from edge_router.tasks.alfworld.tuned_prompt import TunedStyle, tuned_thought
from edge_router.tasks.household.expert import Expert, understand
from edge_router.tasks.household.pddl import read_world
from edge_router.tasks.household.simulator import Simulator
from edge_router.tasks.parse import MARKER
from edge_router.tasks.protocol import Message, PromptStyle, scripted_steps

MAX_STEPS: Final = 20  # of a game that is read
VERIFIED: Final = (
    "pick_heat_then_place_in_recep",
    "pick_two_obj_and_place",
    "look_at_obj_in_light",
)


def calibration(style: PromptStyle) -> Iterator[list[Message]]:
    """The shipped games, cut to MAX_STEPS steps each."""
    for ref in split_games(GENERATED):
        game = Simulator(read_world(ref.path))
        opening = game.opening()
        shown = style.name == ReactStyle.name  # a worked game, which would be read every time
        messages = rules_messages(opening) if shown else style.opening(opening)
        wanted, expert = understand(opening.goal).object, Expert(opening)
        for step in scripted_steps(game.step, expert, MAX_STEPS):
            said = _said(style, step.thought, step.action, wanted)
            messages += [_message(said, step.action), style.reply(step.reply.observation)]
        yield messages


def verification(style: PromptStyle) -> Iterator[list[Message]]:
    """One worked game of each of the VERIFIED types; prompts show another one of that type."""
    for kind in VERIFIED:
        example = examples(kind)[1]
        messages = style.opening(example.opening)
        for step in example.steps:
            said = step.thought if style.name == ReactStyle.name else _short(style, step.short)
            messages += [_message(said, step.action), style.reply(step.observation)]
        yield messages


def _message(said: str, action: str) -> Message:
    return {"role": "assistant", "content": f"{said}{MARKER} {action}"}


def _said(style: PromptStyle, thought: str, action: str, wanted: str) -> str:
    """The thought in the style's words; rare thoughts, after mishaps, have no sentence."""
    if style.name != ReactStyle.name:
        return _short(style, thought)
    try:
        return sentence(thought, action, wanted)
    except ValueError:
        return thought


def _short(style: PromptStyle, thought: str) -> str:
    return tuned_thought(thought) if style.name == TunedStyle.name else thought
