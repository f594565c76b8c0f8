"""ALFWorld behind the `Game` protocol: on its real engine (TextWorld's PDDL games), or simulated.

The engine is loaded when the first game is reset. It changes `sys.argv`, which is undone here.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_router.errors import MachineError, UserError
from edge_router.tasks.alfworld import engine
from edge_router.tasks.alfworld.engine_speed import Translations, remembered_translations
from edge_router.tasks.alfworld.expressions import ForbiddenGameError
from edge_router.tasks.alfworld.game_files import NAME, task_kind
from edge_router.tasks.household.pddl import load_game
from edge_router.tasks.household.pddl_write import GAME_FILE
from edge_router.tasks.household.simulator import Simulator
from edge_router.tasks.household.world import World
from edge_router.tasks.protocol import Opening, Reply

_WELCOME = re.compile(r"\A-= Welcome.*?=-\s*")
_GOAL = "Your task is to: "


class AlfworldGame:
    """One ALFWorld game on the real engine.

    `path` is a `game.tw-pddl` or the folder that holds it. The first reset takes 0.2 to 0.6 s
    (the planner translates the household), later ones and steps are far quicker.
    """

    task = NAME

    def __init__(self, path: str | Path) -> None:
        """Check the file and load no engine yet. Raises UserError when it is no game."""
        file = Path(path)
        self.path = file / GAME_FILE if file.is_dir() else file
        load_game(self.path)
        self.path = Path(os.path.abspath(self.path))  # a link's own name is the game's
        folder = self.path.parent
        self.id = f"{folder.parent.name}/{folder.name}"
        self.kind = task_kind(self.path)
        self._translations: Translations = {}
        self._env: Any = None
        self._state: Any = None

    def reset(self) -> Opening:
        """Start the game anew.

        Raises UserError when the game is refused or rejected by the engine, and MachineError
        when it is this machine that cannot run the engine.
        """
        with self._faults_told(), _contained(), remembered_translations(self._translations):
            if self._env is None:
                self._env = _loaded_engine(self.path)
            self._state = self._env.reset()
        text = _WELCOME.sub("", self._state.feedback.strip())
        observation, _, goal = text.partition(_GOAL)
        return Opening(observation.strip(), goal.strip())

    def step(self, action: str) -> Reply:
        """Play one command; what the engine does not accept gives 'Nothing happens.'.

        Raises what `reset` raises: some sentences of a game are first written in play.
        """
        self._require_reset()
        with self._faults_told(), _contained():
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
            engine.give_back(self._env)
            self._env = self._state = None

    @contextmanager
    def _faults_told(self) -> Iterator[None]:
        """Tell in one sentence what the engine raises."""
        try:
            yield
        except UserError:
            raise
        except (OSError, MemoryError, ImportError) as error:
            raise MachineError(f"The game engine fails on this machine: {_line(error)}.") from error
        except ForbiddenGameError as error:
            raise UserError(f"{self.path} is refused: {error}.") from error
        except (Exception, SystemExit) as error:  # the PDDL parser exits the process on errors
            raise UserError(
                f"The ALFWorld engine rejects {self.path}: the game is damaged ({_line(error)})."
            ) from error

    def _require_reset(self) -> None:
        if self._state is None:
            raise RuntimeError("AlfworldGame: call reset() first")


def _loaded_engine(path: Path) -> Any:
    """An engine with the game loaded."""
    env = engine.take()
    try:
        engine.load(env, path)
    except BaseException:
        engine.give_back(env)
        raise
    return env


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(" .:") or type(error).__name__


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


class SimulatedGame:
    """One household in the simulator; `reset` starts it anew.

    Its replies are the engine's own sentences, at microseconds instead of 45 ms a step, which is
    what training on thousands of games needs.
    """

    task = NAME

    def __init__(self, world: World, game_id: str = "") -> None:
        self.world = world
        self.id = game_id or world.id
        self.kind = world.goal.kind
        self._simulator = Simulator(world)

    def reset(self) -> Opening:
        self._simulator = Simulator(self.world)
        return self._simulator.opening()

    def step(self, action: str) -> Reply:
        return self._simulator.step(action)

    def admissible(self) -> tuple[str, ...]:
        return self._simulator.admissible()

    def close(self) -> None:
        """There is nothing to free."""
