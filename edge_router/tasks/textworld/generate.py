"""Writes sets of new TextWorld games, each proven winnable on the engine.

    edge-router games generate --task textworld --challenge cooking --count 10 --out DIR

Game i of a seed is the same whatever the count. Without a challenge the four of them take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final

from edge_router.errors import MachineError
from edge_router.tasks.drawn import Draw, Drawn, Progress, one_of, write_games
from edge_router.tasks.games import GameRef
from edge_router.tasks.textworld import engine
from edge_router.tasks.textworld.game import TextworldGame
from edge_router.tasks.textworld.game_files import CHALLENGES, NAME, PROGRAM
from edge_router.work.processes import Confined, EndedError

_CHILD: Final = "edge_router.tasks.textworld.maker_process"
Settings = dict[str, Any]


def generate_games(
    count: int,
    seed: int,
    out: str | Path,
    progress: Progress | None = None,
    challenge: str | None = None,
) -> list[GameRef]:
    """Write `count` games as `<out>/<challenge>-S<seed>-<index>.z8` with a .json beside each.

    A few seconds a game. Raises what `write_games` raises, UserError when there is no such
    challenge, and MachineError when games cannot be compiled here.
    """
    kinds = CHALLENGES if challenge is None else (one_of(challenge, CHALLENGES),)
    with closing(engine.start(_CHILD)) as maker:
        return write_games(count, out, _draw(maker, seed, kinds), progress)


def _draw(maker: Confined, seed: int, kinds: tuple[str, ...]) -> Draw:
    rngs: dict[int, Random] = {}

    def draw(index: int, desk: Path) -> Drawn | None:
        """Draw and write a game; asked again for the same index, it draws on."""
        rng = rngs.setdefault(index, Random(f"textworld {seed} {index}"))
        kind = kinds[index % len(kinds)]
        name = f"{kind}-S{seed}-{index:04d}"
        program = (desk / f"{name}{PROGRAM}").absolute()
        order = {"make": kind, "settings": _SETTINGS[kind](rng), "seed": rng.randrange(2**31)}
        if not _made(maker, {**order, "path": str(program)}):
            return None
        steps = _proven_steps(program)
        if steps is None:
            return None
        parts = (f"{name}.json", program.name)  # a program without its .json is left out
        return Drawn(GameRef(name, desk / program.name, kind, NAME), steps, parts=parts)

    return draw


def _made(maker: Confined, order: dict[str, Any]) -> bool:
    """Whether the game could be drawn. Raises MachineError where none can."""
    try:
        said = maker.ask(order)
    except EndedError as error:
        raise MachineError(f"TextWorld cannot make a game on this machine ({error}).") from error
    if "machine" in said:
        raise MachineError(f"{said['machine']}.")
    return "error" not in said


def _proven_steps(program: Path) -> int | None:
    """How many commands the walkthrough has, if it wins the game and no earlier one does."""
    with closing(TextworldGame(program)) as game:
        plan = game.about.walkthrough
        game.reset()
        won = [game.step(command).won for command in plan]
    return len(plan) if won and won[-1] and not any(won[:-1]) else None


# -- how hard the games are -----------------------------------------------------------------------


def _simple(rng: Random) -> Settings:
    return {"rewards": "dense", "goal": rng.choice(("detailed", "brief")), "test": False}


def _coin_collector(rng: Random) -> Settings:
    return {"level": rng.randint(2, 12) + rng.choice((0, 100))}  # from 101 on with dead ends


def _treasure_hunter(rng: Random) -> Settings:
    return {"level": rng.randint(1, 20)}  # from 11 on with closed doors and containers


def _cooking(rng: Random) -> Settings:
    ingredients = rng.randint(1, 3)
    return {
        "recipe": ingredients,
        "take": rng.randint(1, ingredients),
        "go": rng.choice((1, 6, 9)),
        "open": True,
        "cook": rng.random() < 0.5,
        "cut": rng.random() < 0.5,
        "drop": False,
        "recipe_seed": 0,
        "split": None,
    }


_SETTINGS: Final[dict[str, Callable[[Random], Settings]]] = {
    "simple": _simple,
    "coin_collector": _coin_collector,
    "treasure_hunter": _treasure_hunter,
    "cooking": _cooking,
}
