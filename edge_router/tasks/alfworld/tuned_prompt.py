"""The prompt of models that were fine-tuned on the games: the engine's own sentences, no more.

Rules and worked game of the `react` style cost a thousand tokens an episode; a model that has
learnt the game needs neither. It thinks in few words, which is less to write:

    no pan countertop 2
    > go to countertop 1

The thoughts are the scripted expert's. Only its plan names kinds of places instead of every
place: the numbers are in the room's listing.
"""

from __future__ import annotations

from edge_router.tasks.household.world import ENTITY, kind_of
from edge_router.tasks.parse import Parsed, parse_step
from edge_router.tasks.protocol import Message, Opening, PromptStyle

PLAN = "plan: "


class TunedStyle(PromptStyle):
    """For models fine-tuned on the task: neither rules nor a worked game."""

    name = "tuned"
    max_tokens = 96
    stop: tuple[str, ...] = ()

    def opening(self, opening: Opening) -> list[Message]:
        text = f"{opening.observation}\nYour task is to: {opening.goal}"
        return [{"role": "user", "content": text}]

    def reply(self, observation: str) -> Message:
        return {"role": "user", "content": observation}

    def parse(self, text: str) -> Parsed:
        return parse_step(text)


def tuned_thought(thought: str) -> str:
    """The scripted expert's thought as such a model is taught it."""
    if not thought.startswith(PLAN):
        return thought
    kinds = dict.fromkeys(kind_of(name) for name in ENTITY.findall(thought))
    return PLAN + " ".join(kinds)
