"""A TextWorld game behind the `Game` protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_router.errors import UserError
from edge_router.tasks.protocol import Opening, Reply
from edge_router.tasks.textworld import engine
from edge_router.tasks.textworld.commands import (
    UNKNOWN,
    as_typed,
    is_outside,
    opening_text,
    reply_text,
)
from edge_router.tasks.textworld.game_files import NAME, read_about


class TextworldGame:
    """One game on TextWorld's engine; `path` is the .z8, the .json lies beside it."""

    task = NAME

    def __init__(self, path: str | Path, game_id: str = "") -> None:
        """Check both files and load no engine yet. Raises UserError when they are no game."""
        self.path = Path(path).absolute()  # the engine has a folder of its own
        self.about = read_about(Path(path))
        self.id = game_id or self.path.stem
        self.kind = self.about.kind
        self._engine: engine.Engine | None = None
        self._state: dict[str, Any] | None = None
        self._last: Reply | None = None

    def reset(self) -> Opening:
        """Start the game anew.

        Raises UserError when the engine rejects the game, and MachineError when this machine
        cannot run the engine.
        """
        self._last = None
        if self._engine is None or not self._engine.usable:
            self._engine = engine.take()
            self._ask({"load": str(self.path)})
        self._state = self._ask({"reset": True})
        return Opening(
            opening_text(self._state["text"]), self.about.objective, self.about.max_score
        )

    def step(self, action: str) -> Reply:
        """Play one command. Where the game is over, every command gets its last reply.

        Raises what `reset` raises.
        """
        if self._state is None:
            raise RuntimeError("TextworldGame: call reset() first")
        if self._last is not None and self._last.done:
            return self._last
        command = as_typed(action)
        if is_outside(command):
            return Reply(UNKNOWN, done=False, won=False, score=self._state["score"])
        self._state = state = self._ask({"step": command})
        self._last = Reply(
            reply_text(state["text"]),
            done=state["won"] or state["lost"],
            won=state["won"],
            score=state["score"],
        )
        return self._last

    def admissible(self) -> tuple[str, ...]:
        """The commands accepted now, sorted. The engine has them at hand after every step."""
        if self._state is None:
            raise RuntimeError("TextworldGame: call reset() first")
        return tuple(self._state["admissible"])

    def close(self) -> None:
        """Give the engine back for the next game; a later `reset` takes one again."""
        if self._engine is not None:
            engine.give_back(self._engine)
        self._engine = self._state = None

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._engine is not None
        try:
            return self._engine.ask(message)
        except engine.RejectedError as error:
            self.close()
            said = " ".join(str(error).split())
            raise UserError(f"TextWorld cannot play {self.path}: {said}.") from error
