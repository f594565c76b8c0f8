"""ALFWorld on its real engine (TextWorld's PDDL games), behind the `Task` protocol.

textworld and alfworld are imported when the first game is reset: they take 0.8 s. The engine
changes `sys.argv`, and importing alfworld makes a folder in the user's home and sets
ALFWORLD_DATA; both are undone here.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_router.errors import UserError
from edge_router.tasks.base import Opening, Reply
from edge_router.tasks.engine_speed import (
    Translations,
    remember_commands,
    remembered_translations,
)
from edge_router.tasks.game_files import (
    GAME_FILE,
    SPLITS,
    GameRef,
    find_games,
    pick,
    split_games,
    task_kind,
)
from edge_router.tasks.household.pddl import load_game

__all__ = ["SPLITS", "AlfworldGame", "GameRef", "find_games", "open_game", "pick", "split_games"]

_WELCOME = re.compile(r"\A-= Welcome.*?=-\s*")
_TASK = "Your task is to: "
# Engines whose game was closed. Each holds its own copy of the planner's library, and unloading
# several of these copies ends the process in a segmentation fault, so engines are used again.
_IDLE: list[Any] = []


class AlfworldGame:
    """One ALFWorld game on the real engine.

    `path` is a `game.tw-pddl` or the folder that holds it. The first reset takes 0.2 to 0.6 s
    (the planner translates the household), later ones and steps are far quicker.
    """

    name = "alfworld"

    def __init__(self, path: str | Path) -> None:
        """Check the file and load no engine yet. Raises UserError when it is no game."""
        file = Path(path)
        self.path = file / GAME_FILE if file.is_dir() else file
        load_game(self.path)
        folder = self.path.resolve().parent
        self.id = f"{folder.parent.name}/{folder.name}"
        self.kind = task_kind(self.path.resolve())
        self._translations: Translations = {}
        self._env: Any = None
        self._state: Any = None

    def reset(self) -> Opening:
        """Start the game anew. Raises UserError when the engine rejects the file."""
        try:
            with _contained(), remembered_translations(self._translations):
                if self._env is None:
                    self._env = _start(self.path)
                self._state = self._env.reset()
        except (Exception, SystemExit) as error:  # the PDDL parser exits the process on errors
            reason = str(error).strip().split("\n")[0].rstrip(" .:") or type(error).__name__
            raise UserError(
                f"The ALFWorld engine rejects {self.path}: the game is damaged ({reason})."
            ) from error
        text = _WELCOME.sub("", self._state.feedback.strip())
        observation, _, task = text.partition(_TASK)
        return Opening(observation.strip(), task.strip())

    def step(self, action: str) -> Reply:
        """Play one command; what the engine does not accept gives 'Nothing happens.'."""
        self._require_reset()
        with _contained():
            self._state, _, _ = self._env.step(action)
        won = bool(self._state["won"])
        return Reply(self._state.feedback.strip(), done=won or bool(self._state["lost"]), won=won)

    def admissible(self) -> tuple[str, ...]:
        """The commands accepted now, sorted. The engine has them at hand after every step."""
        self._require_reset()
        return tuple(self._state["admissible_commands"])

    def close(self) -> None:
        """Give the engine back for the next game; a later `reset` takes one again."""
        if self._env is not None:
            _IDLE.append(self._env)
            self._env = self._state = None

    def _require_reset(self) -> None:
        if self._state is None:
            raise RuntimeError("AlfworldGame: call reset() first")


def open_game(
    split: str | None = None,
    selector: str | int = "0",
    seed: int | None = None,
    *,
    games: str | Path | None = None,
) -> AlfworldGame:
    """The game that a split and an INDEX, an ID or "random" (drawn with `seed`) stand for.

    `games` names any folder of games instead of a split. Without both, the split is
    "valid_seen" when ALFWORLD_DATA is set, else "generated". Raises UserError.
    """
    found = find_games(Path(games).expanduser()) if games is not None else split_games(split)
    return AlfworldGame(pick(found, selector, seed).path)


def _start(path: Path) -> Any:
    """An engine with the game loaded: an idle one, else a new one."""
    if _IDLE:
        env = _IDLE.pop()
        env.load(str(path))
    else:
        demangler = _import_demangler()
        import textworld

        infos = textworld.EnvInfos(won=True, admissible_commands=True)
        env = textworld.start(str(path), infos, wrappers=[demangler])
    remember_commands(env)
    return env


def _import_demangler() -> Any:
    """Import alfworld with ALFWORLD_DATA on a folder that exists, and put it back afterwards."""
    before = os.environ.get("ALFWORLD_DATA")
    os.environ["ALFWORLD_DATA"] = tempfile.gettempdir()
    try:
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    finally:
        del os.environ["ALFWORLD_DATA"]
        if before is not None:
            os.environ["ALFWORLD_DATA"] = before
    return AlfredDemangler


@contextmanager
def _contained() -> Iterator[None]:
    """Keep the engine's warnings off stderr and its hands off `sys.argv`."""
    argv = sys.argv
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.argv = argv
