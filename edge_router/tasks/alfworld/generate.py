"""Writes sets of our own ALFWorld games, each proven winnable on the real engine.

    edge-router games generate --count 60 --seed 1 --out DIR

Game i of a seed is the same whatever the count, and the six task types take turns.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.game_files import NAME
from edge_router.tasks.drawn import Draw, Drawn, Progress, one_of, write_games
from edge_router.tasks.games import GameRef
from edge_router.tasks.household.expert import Expert
from edge_router.tasks.household.generator import STEP_LIMIT, draw_world
from edge_router.tasks.household.pddl import load_game
from edge_router.tasks.household.pddl_write import spelling, write_game
from edge_router.tasks.household.rules import KIND_NAMES
from edge_router.tasks.household.simulator import Simulator
from edge_router.tasks.household.world import World
from edge_router.tasks.protocol import scripted_steps


def generate_games(
    count: int,
    seed: int,
    out: str | Path,
    progress: Progress | None = None,
    kind: str | None = None,
) -> list[GameRef]:
    """Write `count` games into the folder `out` and return them in the order drawn.

    Each game comes as `<out>/<task folder>/<trial folder>` with a plan under "walkthrough",
    and appears there only after that plan has won it on the real engine. About 3 s a game.
    `kind` is the type of all of them. Raises what `write_games` raises, and UserError when there
    is no such type.
    """
    kinds = KIND_NAMES if kind is None else (one_of(kind, KIND_NAMES),)
    return write_games(count, out, _draw(seed, kinds), progress)


def _draw(seed: int, kinds: tuple[str, ...]) -> Draw:
    rngs: dict[int, Random] = {}

    def draw(index: int, desk: Path) -> Drawn | None:
        """Draw and write a game; asked again for the same index, it draws on."""
        rng = rngs.setdefault(index, Random(f"games {seed} {index}"))
        kind = kinds[index % len(kinds)]
        world = draw_world(rng, kind)
        world = replace(world, id=_game_id(world, seed, index))
        plan = expert_plan(world)
        file = write_game(world, desk / world.id, plan)
        if not prove(file):
            return None
        return Drawn(GameRef(world.id, file, kind, NAME), len(plan), parts=(world.id,))

    return draw


def _game_id(world: World, seed: int, index: int) -> str:
    """ALFWorld's naming: task type, object, movable receptacle, target, scene; then the trial."""
    goal = world.goal
    task = f"{goal.kind}-{spelling(goal.object)}-None-{spelling(goal.target)}-{world.scene}"
    return f"{task}/trial_S{seed}_{index:04d}"


def expert_plan(world: World) -> list[str]:
    """The commands with which the scripted expert wins, or all it tried when it does not."""
    sim = Simulator(world)
    expert = Expert(sim.opening())
    return [step.action for step in scripted_steps(sim.step, expert, STEP_LIMIT)]


def prove(file: Path) -> bool:
    """Whether the game's own "walkthrough" wins it on the real engine, and not a step earlier."""
    plan = load_game(file).get("walkthrough")
    if not plan:
        return False
    game = AlfworldGame(file)
    try:
        game.reset()
        won = [game.step(command).won for command in plan]
    finally:
        game.close()
    return won[-1] and not any(won[:-1])
