"""A game that a model plays with the expert looking on: how it is judged, and corrected."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_router.tasks.household.expert import Expert
from edge_router.tasks.household.generator import STEP_LIMIT
from edge_router.tasks.household.rules import REFUSED
from edge_router.tasks.household.simulator import Simulator
from edge_router.tasks.household.world import World
from edge_router.tasks.parse import parse_step
from edge_router.tasks.protocol import Reply

Say = Callable[[str, str], str]  # (thought, action) -> the step as the model is to write it


@dataclass(frozen=True)
class Judged:
    """What stands in the episode for a step that the model wrote."""

    text: str
    learnt: bool  # it is the expert's own step
    replaced: bool  # and the model's was another


class WatchedGame:
    """One game. `say` is how the expert's step reads in the model's prompt style.

    `correct` is the chance that a step which differs from the expert's is
    replaced by it before anything happens. What stands in the episode is
    then either the expert's step (learnt) or a mistake of the model's own
    (not learnt) followed by the expert's way back: DAgger (Ross et al., 2011)
    with corrections in place, so that one episode stays one sequence.
    """

    def __init__(self, world: World, say: Say, correct: float = 0.0, seed: int | str = 0) -> None:
        self.world, self.say = world, say
        self.correct, self.rng = correct, random.Random(seed)
        self.steps = self.refused = self.agreed = 0
        self.won = self.over = False
        self.sim = Simulator(world)
        self.opening = self.sim.opening()
        self.expert = Expert(self.opening)

    def judge(self, text: str) -> Judged:
        """Compare a step with the expert's. Its action is not played yet."""
        thought, action = self.expert.act()
        wanted = self.say(thought, action)
        self.agreed += parse_step(text).action == action
        replaced = text != wanted and self.rng.random() < self.correct
        text = wanted if replaced else text
        return Judged(text, text == wanted, replaced)

    def play(self, text: str) -> Reply:
        """Play the action of a step; the game is over when it is done or out of steps."""
        action = parse_step(text).action
        reply = self.sim.step(action)
        self.expert.observe(reply.observation, action)
        self.steps += 1
        self.refused += reply.observation == REFUSED
        self.won = reply.won
        self.over = reply.done or self.steps >= STEP_LIMIT
        return reply


def summary(games: Sequence[WatchedGame]) -> dict[str, float]:
    """Shares of games won, of steps as the expert's and of steps refused; steps a game."""
    steps = sum(g.steps for g in games)
    return {
        "won": sum(g.won for g in games) / len(games),
        "agreed": sum(g.agreed for g in games) / steps,
        "refused": sum(g.refused for g in games) / steps,
        "steps": steps / len(games),
    }
