"""TextWorld as a `Task`, and who plays its games by their makers' commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from edge_router.errors import UserError
from edge_router.tasks.drawn import Progress
from edge_router.tasks.games import Found, GameRef
from edge_router.tasks.protocol import Finding, Opening, ScriptedPlayer, Task
from edge_router.tasks.textworld import engine, game_files
from edge_router.tasks.textworld.game import REFUSED, TextworldGame
from edge_router.tasks.textworld.prompts import STYLES, AdventureStyle

_DONE = "look"


class Walkthrough(ScriptedPlayer):
    """The scripted player: gives the maker's commands, then looks around.

    A command of somebody else's is no reason to change the plan.
    """

    def __init__(self, commands: Sequence[str]) -> None:
        self._left = list(commands)

    def act(self) -> tuple[str, str]:
        return ("as planned", self._left[0]) if self._left else ("the plan is at its end", _DONE)

    def observe(self, reply: str, action: str) -> None:
        if self._left and action == self._left[0]:
            self._left.pop(0)


class Textworld(Task):
    """Games made by tw-make; `Task` has the contract of every method."""

    name = game_files.NAME
    splits = game_files.SPLITS
    styles = MappingProxyType({style.name: style for style in STYLES})
    default_style = AdventureStyle.name

    def games(self, split: str | None = None, folder: str | Path | None = None) -> Found:
        return game_files.games_of(folder, split)

    def open(self, game: GameRef) -> TextworldGame:
        return TextworldGame(game.path, game.id)

    def refused(self, observation: str) -> bool:
        return REFUSED.match(observation) is not None

    def load_ahead(self) -> None:
        engine.load_ahead()

    def player(self, opening: Opening, game: GameRef) -> ScriptedPlayer | None:
        commands = game_files.read_about(game.path).walkthrough
        return Walkthrough(commands) if commands else None

    def generate(
        self,
        count: int,
        seed: int,
        out: Path,
        challenge: str | None = None,
        progress: Progress | None = None,
    ) -> list[GameRef]:
        from edge_router.tasks.textworld.generate import generate_games

        return generate_games(count, seed, out, progress, challenge)

    def examine(self) -> Iterator[Finding]:
        what = f"games {self.name}"
        try:
            games = self.games().games
            game = self.open(games[0])
            game.reset()
            game.close()
        except UserError as error:
            yield Finding(what, str(error), "other tasks can be played")
            return
        yield Finding(what, f"{len(games)} in {game_files.SHIPPED}; the engine loads")
