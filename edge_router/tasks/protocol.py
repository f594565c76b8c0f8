"""What the agent may know of a task: reset, step, done, won, and its text.

A `Task` is one game, ready to be played any number of times. Everything else
(the engine underneath, where the files lie) is the task's own business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

TASKS = ("alfworld",)  # that can be played
REFUSED = "Nothing happens."  # the reply to a command that was not possible


@dataclass(frozen=True)
class Opening:
    """What the agent sees before its first step."""

    observation: str  # "You are in the middle of a room. ..." without the task sentence
    task: str  # "put a clean apple in fridge." without "Your task is to: "


@dataclass(frozen=True)
class Reply:
    """The environment's answer to one action."""

    observation: str
    done: bool
    won: bool


class Task(Protocol):
    """One game.

    `name` is the task family ("alfworld"), `id` names the game within its
    split so that `--game ID` finds it again, `kind` is the task type
    ("pick_clean_then_place_in_recep").
    """

    name: str
    id: str
    kind: str

    def reset(self) -> Opening: ...

    def step(self, action: str) -> Reply: ...

    def admissible(self) -> tuple[str, ...]:
        """The commands that would be accepted now, sorted; computed on request only."""
        ...

    def close(self) -> None: ...
