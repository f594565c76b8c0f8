"""Episodes as training sequences: expert play, mistakes, and the way back from them.

    python -m train.lm.episodes --count 3      # print a few, with what is learnt marked

An episode is the transcript exactly as the agent's prompt will hold it. The
loss lies on the expert's thoughts and actions (weight 1) and lightly on the
replies (`REPLY_WEIGHT`, which helps copying heads to form). In a share of the
episodes some steps are mistakes of a careless player: they stand in the
context, carry no loss, and the expert's next step shows the recovery.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge_router.tasks.alfworld.household_prompt import compact, compact_opening, step_text
from edge_router.tasks.household.expert import Expert
from edge_router.tasks.household.generator import STEP_LIMIT, draw_world
from edge_router.tasks.household.simulator import Simulator
from edge_router.tasks.household.world import World
from edge_router.tasks.protocol import Reply
from train.lm.vocabulary import AGENT, END, MOST_OTHERS, USER, vocabulary

REPLY_WEIGHT = 0.1
CARELESS_SHARE = 0.5  # of the episodes hold mistakes
# of the episodes number their items at random: generated rooms seldom hold a "peppershaker 4",
# and a model trained on them alone reads it as a 3
SCATTERED_SHARE = 0.3
MAX_TOKENS = 768  # longer sequences are cut; 99 % of the episodes are far shorter


@dataclass
class WeightedTranscript:
    """Token ids with the loss weight of predicting each of them."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, text: str, weight: float) -> None:
        ids = vocabulary().encode(text)
        self.ids += ids
        self.weights += [weight] * len(ids)

    def user(self, content: str, weight: float = REPLY_WEIGHT) -> None:
        self.add(USER, 0.0)
        self.add(f" {content}", weight)

    def agent(self, thought: str, action: str, weight: float) -> None:
        self.add(AGENT, 0.0)
        self.add(f" {step_text(thought, action)}{END}", weight)

    def arrays(self) -> tuple[NDArray[np.int16], NDArray[np.float16]]:
        """(ids, weights), each of shape (tokens,), cut to MAX_TOKENS."""
        ids = np.asarray(self.ids[:MAX_TOKENS], dtype=np.int16)
        return ids, np.asarray(self.weights[:MAX_TOKENS], dtype=np.float16)


Mistake = Callable[[random.Random, Simulator, Expert], str]


def _anywhere(rng: random.Random, sim: Simulator, expert: Expert) -> str:
    return f"go to {rng.choice(expert.room)}"


def _nowhere(rng: random.Random, sim: Simulator, expert: Expert) -> str:
    """A receptacle one past the last of its kind."""
    kind, number = rng.choice(expert.room).rsplit(" ", 1)
    return f"go to {kind} {int(number) + rng.randint(1, 3)}"


def _take_something(rng: random.Random, sim: Simulator, expert: Expert) -> str:
    place = expert.memory.at or rng.choice(expert.room)
    return f"take {rng.choice(list(sim.world.items))} from {place}"


def _take_visible(rng: random.Random, sim: Simulator, expert: Expert) -> str:
    place = expert.memory.at
    items = sim.contents(place)
    return f"take {rng.choice(items)} from {place}" if items else _anywhere(rng, sim, expert)


def _put_down(rng: random.Random, sim: Simulator, expert: Expert) -> str:
    held = expert.memory.holding or rng.choice(list(sim.world.items))
    return f"move {held} to {expert.memory.at or rng.choice(expert.room)}"


def _look_here(rng: random.Random, sim: Simulator, expert: Expert) -> str:
    place = expert.memory.at or rng.choice(expert.room)
    return f"{rng.choice(['examine', 'open', 'close'])} {place}"


def _repeat(rng: random.Random, sim: Simulator, expert: Expert) -> str:
    return expert.last_action or _anywhere(rng, sim, expert)


MISTAKES: tuple[Mistake, ...] = (
    _anywhere, _anywhere, _nowhere, _take_something, _take_visible, _put_down, _look_here, _repeat,
)  # fmt: skip


def _careless_thought(rng: random.Random, thought: str, expert: Expert) -> str:
    """The thought beside a mistake: the right one, or one about some other place."""
    if rng.random() < 0.5:
        return thought
    return f"no {expert.wish.object} {rng.choice(expert.room)}"


@dataclass(frozen=True)
class EpisodeStep:
    """A step of the expert's, or (`learnt` is False) a mistake, and the reply to it."""

    thought: str
    action: str
    learnt: bool
    reply: Reply


def expert_steps(
    sim: Simulator, expert: Expert, rng: random.Random, carelessness: float
) -> Iterator[EpisodeStep]:
    """Play to the end; a step but the first is a mistake with probability `carelessness`."""
    for step in range(STEP_LIMIT):
        thought, action = expert.act()
        learnt = True
        if step > 0 and rng.random() < carelessness:
            thought = _careless_thought(rng, thought, expert)
            action, learnt = rng.choice(MISTAKES)(rng, sim, expert), False
        reply = sim.step(action)
        yield EpisodeStep(thought, action, learnt, reply)
        if reply.done:
            return
        expert.observe(reply.observation, action)


def record(
    world: World, rng: random.Random, carelessness: float
) -> tuple[WeightedTranscript, bool]:
    """Play `world` to the end; a step is a mistake with probability `carelessness`."""
    sim, transcript = Simulator(world), WeightedTranscript()
    opening = sim.opening()
    transcript.user(compact_opening(opening))
    for step in expert_steps(sim, Expert(opening), rng, carelessness):
        transcript.agent(step.thought, step.action, float(step.learnt))
        if step.reply.done:
            return transcript, True
        transcript.user(compact(step.reply.observation))
    return transcript, False


def scatter_numbers(world: World, rng: random.Random) -> World:
    """The same world with other numbers on its items, still distinct within a kind."""
    names: dict[str, str] = {}
    for kind in sorted({item.kind for item in world.items.values()}):
        old = [name for name in world.items if world.items[name].kind == kind]
        numbers = rng.sample(range(1, max(MOST_OTHERS, len(old)) + 1), len(old))
        names |= {
            name: f"{kind} {n}" for name, n in zip(old, sorted(numbers, reverse=True), strict=True)
        }
    scattered = world.fresh()
    scattered.items = {
        names[item.name]: replace(
            item, name=names[item.name], contents=tuple(names[i] for i in item.contents)
        )
        for item in scattered.items.values()
    }
    return scattered


def draw_game(rng: random.Random, kind: str | None = None) -> tuple[World, float]:
    """A fresh world to learn from, and how careless its player is."""
    careless = rng.uniform(0.03, 0.25) if rng.random() < CARELESS_SHARE else 0.0
    world = draw_world(rng, kind)
    if rng.random() < SCATTERED_SHARE:
        world = scatter_numbers(world, rng)
    return world, careless


def draw_transcript(rng: random.Random, kind: str | None = None) -> WeightedTranscript:
    """One training episode of a fresh world."""
    world, careless = draw_game(rng, kind)
    transcript, _ = record(world, rng, careless)
    return transcript


def main() -> None:
    parser = argparse.ArgumentParser(description="Print training episodes.")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, v = random.Random(args.seed), vocabulary()
    for _ in range(args.count):
        t = draw_transcript(rng)
        text = "".join(
            f"\033[1m{v.decode([i])}\033[0m" if w >= 1 else v.decode([i])
            for i, w in zip(t.ids, t.weights, strict=True)
        )
        print(text.replace(USER, f"\n{USER}").replace(AGENT, f"\n{AGENT}"))
        print(f"-- {len(t.ids)} tokens\n")


if __name__ == "__main__":
    main()
