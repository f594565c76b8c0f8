"""The scripted player of a TextWorld game: the commands that its maker wrote down."""

from __future__ import annotations

from collections.abc import Sequence

from edge_router.tasks.protocol import ScriptedPlayer

_DONE = "look"


class Walkthrough(ScriptedPlayer):
    """Gives one command after the other, and looks around when there is none left.

    A command of somebody else's is no reason to change the plan.
    """

    def __init__(self, commands: Sequence[str]) -> None:
        self._left = list(commands)

    def act(self) -> tuple[str, str]:
        return ("as planned", self._left[0]) if self._left else ("the plan is at its end", _DONE)

    def observe(self, reply: str, action: str) -> None:
        if self._left and action == self._left[0]:
            self._left.pop(0)
