"""ALFWorld as a `Task`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Final

from edge_router.errors import MachineError, UserError
from edge_router.tasks.alfworld import calibration, engine, game_files
from edge_router.tasks.alfworld.game import AlfworldGame, SimulatedGame
from edge_router.tasks.alfworld.household_prompt import HouseholdStyle
from edge_router.tasks.alfworld.react_prompt import ReactStyle
from edge_router.tasks.alfworld.tuned_prompt import TunedStyle
from edge_router.tasks.drawn import Progress
from edge_router.tasks.games import Found, GameRef
from edge_router.tasks.household.expert import Expert, understand
from edge_router.tasks.household.generator import draw_world
from edge_router.tasks.household.pddl import read_world
from edge_router.tasks.household.rules import KIND_NAMES, REFUSED
from edge_router.tasks.protocol import Finding, Message, Opening, PromptStyle, Task

STYLES: Final[tuple[PromptStyle, ...]] = (HouseholdStyle(), ReactStyle(), TunedStyle())


class Alfworld(Task):
    """Household games; `Task` has the contract of every method."""

    name = game_files.NAME
    splits = game_files.SPLITS
    styles = MappingProxyType({style.name: style for style in STYLES})
    default_style = ReactStyle.name
    drawn_kinds = KIND_NAMES

    def games(self, split: str | None = None, folder: str | Path | None = None) -> Found:
        return game_files.games_of(folder, split)

    def open(self, game: GameRef) -> AlfworldGame:
        return AlfworldGame(game.path)

    def refused(self, observation: str) -> bool:
        return observation == REFUSED

    def first_game(self, games: Sequence[GameRef]) -> str:
        return game_files.default_game(games)

    def load_ahead(self) -> None:
        engine.load_ahead()

    def player(self, opening: Opening, game: GameRef) -> Expert:
        return Expert(opening)

    def simulated(self, game: GameRef) -> SimulatedGame:
        return SimulatedGame(read_world(game.path), game.id)

    def draw(self, kind: str, game_id: str, rng: Random) -> SimulatedGame:
        return SimulatedGame(draw_world(rng, kind), game_id)

    def why_lost(self, goal: str, actions: Sequence[str]) -> str:
        """By the object: never found, another one taken, or the right one and no time left."""
        try:
            wanted = understand(goal).object
        except ValueError:
            return "lost"
        words = [action.split() for action in actions]
        taken = [w[1] for w in words if len(w) > 1 and w[0] == "take"]
        if not taken:
            return "not found"
        return "out of steps" if wanted in taken else "wrong object"

    def calibration(self, style: PromptStyle) -> Iterator[list[Message]]:
        return calibration.calibration(style)

    def verification(self, style: PromptStyle) -> Iterator[list[Message]]:
        return calibration.verification(style)

    def generate(
        self,
        count: int,
        seed: int,
        out: Path,
        challenge: str | None = None,
        progress: Progress | None = None,
    ) -> list[GameRef]:
        from edge_router.tasks.alfworld.generate import generate_games

        return generate_games(count, seed, out, progress, challenge)

    def examine(self) -> Iterator[Finding]:
        for split in self.splits:
            yield from _games(split)
        if os.environ.get("ALFWORLD_DATA") is None:
            yield Finding(
                "ALFWORLD_DATA",
                "not set: our own games are played",
                "for the official games set it to a folder and run alfworld-download",
            )
        yield _engine()


def _games(split: str) -> Iterator[Finding]:
    """A split that is there; of the official ones, nobody has to have any."""
    try:
        games = game_files.split_games(split)
    except UserError as error:
        if split == game_files.GENERATED:
            yield Finding("games generated", str(error), "install edge-router again", True)
        return
    yield Finding(f"games {split}", f"{len(games)} in {games[0].path.parents[2]}")


def _engine() -> Finding:
    """The game engine, really loaded: it needs a temporary folder with room that runs programs."""
    what, where = "game engine", engine.temporary_folder()
    try:
        engine.new_engine()
    except MachineError as error:
        return Finding(what, str(error), "nothing can be played before", stops=True)
    return Finding(what, f"loads; temporary folder {where}")
