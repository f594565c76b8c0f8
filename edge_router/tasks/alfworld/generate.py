"""Writes sets of our own ALFWorld games, each proven winnable on the real engine.

    edge-router games generate --count 60 --seed 1 --out DIR

Game i of a seed is the same whatever the count, and the six task types take turns.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from edge_router.errors import UserError
from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.game_files import NAME
from edge_router.tasks.games import GameRef
from edge_router.tasks.household.expert import Expert
from edge_router.tasks.household.generator import STEP_LIMIT, draw_world
from edge_router.tasks.household.pddl import load_game
from edge_router.tasks.household.pddl_write import spelling, write_game
from edge_router.tasks.household.rules import KIND_NAMES
from edge_router.tasks.household.simulator import Simulator
from edge_router.tasks.household.world import World
from edge_router.tasks.scripted import scripted_steps

MAX_REDRAWS = 20


@dataclass(frozen=True)
class Drawn:
    """Told after every game: `done` of `count`; `dropped` draws the engine did not let win."""

    game: GameRef
    steps: int  # length of the plan that won it
    done: int
    count: int
    dropped: int


def generate_games(
    count: int,
    seed: int,
    out: str | Path,
    progress: Callable[[Drawn], None] | None = None,
) -> list[GameRef]:
    """Write `count` games into the folder `out` and return them in the order drawn.

    Each game comes as `<out>/<task folder>/<trial folder>` with a plan under "walkthrough",
    and appears there only after that plan has won it on the real engine; an interrupted run
    leaves whole games. About 3 s a game. Raises UserError when `count` is below 1 or `out` is
    no new or empty folder.
    """
    if count < 1:
        raise UserError(f"The number of games must be at least 1, not {count}.")
    target = _empty_folder(out)
    games = []
    with tempfile.TemporaryDirectory(dir=target, prefix=".drawing-") as desk:
        for index in range(count):
            drawn = _draw_proven(seed, index, count, Path(desk))
            path = target / drawn.game.id
            path.parent.mkdir(exist_ok=True)
            os.rename(drawn.game.path.parent, path)
            game = replace(drawn.game, path=path / drawn.game.path.name)
            games.append(game)
            if progress:
                progress(replace(drawn, game=game))
    return games


def _empty_folder(out: str | Path) -> Path:
    target = Path(out)
    try:
        target.mkdir(parents=True, exist_ok=True)
        taken = any(target.iterdir())
    except OSError as error:
        raise UserError(f"Cannot make the folder {target}: {error.strerror}.") from None
    if taken:
        raise UserError(f"{target} already holds files; name a new or an empty folder.")
    return target


def _draw_proven(seed: int, index: int, count: int, desk: Path) -> Drawn:
    """Draw and write games into `desk` until one is won on the real engine."""
    rng = Random(f"games {seed} {index}")
    kind = KIND_NAMES[index % len(KIND_NAMES)]
    for dropped in range(MAX_REDRAWS):
        world = draw_world(rng, kind)
        world = replace(world, id=_game_id(world, seed, index))
        plan = expert_plan(world)
        file = write_game(world, desk / world.id, plan)
        if prove(file):
            ref = GameRef(world.id, file, kind, NAME)
            return Drawn(ref, len(plan), index + 1, count, dropped)
    raise RuntimeError(f"the engine wins none of {MAX_REDRAWS} draws of {kind}")


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
