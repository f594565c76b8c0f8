"""Expert episodes as chats: what was said, what of it is to be learnt, what was replied."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from edge_router.tasks.alfworld.household_prompt import step_text
from edge_router.tasks.alfworld.tuned_prompt import TunedStyle, tuned_thought
from edge_router.tasks.household.expert import Expert
from edge_router.tasks.household.simulator import Simulator
from edge_router.tasks.protocol import Opening
from train.lm.episodes import draw_game, expert_steps

STYLE = TunedStyle()


@dataclass
class OwnStep:
    """A step as a model wrote it: its tokens, without the one that ends it."""

    tokens: list[int] = field(default_factory=list)
    ended: bool = False  # by the model itself, not by its length


@dataclass(frozen=True)
class TaughtTurn:
    """A step as it was written, and the reply to it. Mistakes stand there and are not learnt.

    `written` are the very tokens, where a model wrote them; a text can be cut otherwise.
    """

    text: str
    learnt: bool
    observation: str
    written: OwnStep | None = None


@dataclass(frozen=True)
class Dialogue:
    """An episode."""

    opening: Opening
    turns: tuple[TaughtTurn, ...]


def say(thought: str, action: str) -> str:
    """The expert's step as a tuned model is to write it."""
    return step_text(tuned_thought(thought), action)


def draw_dialogue(rng: random.Random) -> Dialogue:
    """The expert's play in a fresh world, in half of the episodes with mistakes."""
    world, carelessness = draw_game(rng)
    sim = Simulator(world)
    opening = sim.opening()
    turns = [
        TaughtTurn(say(step.thought, step.action), step.learnt, step.reply.observation)
        for step in expert_steps(sim, Expert(opening), rng, carelessness)
    ]
    return Dialogue(opening, tuple(turns))
