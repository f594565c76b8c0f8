"""The child that plays TextWorld games: the engine, and a stranger's program inside it.

Each line of stdin is one of

    {"load": "/path/to/game.z8"}    {}
    {"reset": true}                 the game's first text, and what is known of its state
    {"step": "open box"}            the same after a command

and what cannot be done is answered with {"error": ...}, or {"machine": ...} where it is this
machine that fails. While a game plays no file can be opened, so it can neither read nor write one.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from edge_router.work.processes import ChildLimits, serve

SECONDS: Final = 5.0
MEMORY_BYTES: Final = 1_000_000_000
TEXT_LENGTH: Final = 100_000  # letters of one reply
_FILE_BYTES: Final = 1 << 20  # of the interpreter's library, which it copies to load it
_SEED: Final = 20  # of the game's random numbers, so that the same actions get the same replies


class GameHost:
    """TextWorld with at most one game."""

    def __init__(self) -> None:

        import textworld
        from textworld.envs import JerichoEnv, TWInform7

        wanted = textworld.EnvInfos(score=True, admissible_commands=True)
        self._make: Callable[[], Any] = lambda: TWInform7(JerichoEnv(wanted))
        self._game: Any = None

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """What a line is answered with."""
        try:
            return self._do(message)
        except MemoryError:
            return {"error": f"it takes more than {MEMORY_BYTES / 1e6:.0f} MB of memory"}
        except (ImportError, OSError) as error:
            return {"machine": f"{type(error).__name__}: {error}"}
        except (Exception, SystemExit) as error:  # a stranger's game may break any part of it
            return {"error": f"{type(error).__name__}: {error}"[:300]}

    def _do(self, message: dict[str, Any]) -> dict[str, Any]:
        if "load" in message:
            if self._game is not None:
                self._game.close()
            self._game = self._make()
            self._game.load(message["load"])
            self._game.unwrapped.seed(_SEED)
            return {}
        if "reset" in message:
            state = self._game.reset()
            return {"error": "its program ends at once"} if self._halted else _told(state)
        with _no_files():
            state = self._game.step(message["step"])[0]
        return _told(state, halted=self._halted)

    @property
    def _halted(self) -> bool:
        """Whether the program has ended, by itself or by a fault."""
        return bool(self._game.unwrapped._jericho._emulator_halted())


def _told(state: Any, *, halted: bool = False) -> dict[str, Any]:
    """A state as plain data."""
    if len(state["feedback"]) > TEXT_LENGTH:
        return {"error": f"it writes more than {TEXT_LENGTH} letters at once"}
    score = state["score"]
    return {
        "text": state["feedback"],
        "score": score if type(score) is int else None,
        "won": bool(state["won"]),
        "lost": bool(state["lost"]) or (halted and not state["won"]),
        "admissible": list(state["admissible_commands"]),
    }


@contextmanager
def _no_files() -> Iterator[None]:
    """Let nothing be opened within; what is open stays usable."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def main() -> None:
    """Load the engine, then answer."""
    try:
        answer = GameHost().answer
    except (ImportError, OSError) as error:
        fault = {"machine": f"{type(error).__name__}: {error}"}
        answer = lambda message: fault  # noqa: E731
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    serve(answer, ChildLimits(SECONDS, MEMORY_BYTES))


if __name__ == "__main__":
    main()
