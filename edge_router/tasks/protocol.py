"""What the rest of the program may know of a task, and of one of its games.

A `Task` is a family of games, such as ALFWorld; a `Game` is one of them, ready to be played any
number of times; its goal is the sentence that says what is wanted. The engine underneath, where
the files lie and in what words a model is asked are the task's own business.

A new task is a package below `tasks/` with a subclass of `Task`, and a line in `registry`. What
has a body here may be left out. `tests/tasks/test_second_task.py` is the smallest example.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from edge_router.errors import UserError
from edge_router.tasks.drawn import Progress
from edge_router.tasks.games import Found, GameRef
from edge_router.tasks.parse import Parsed

Message = dict[str, str]  # {"role": "user", "content": "..."}, as chat templates want them


@dataclass(frozen=True)
class Opening:
    """What the agent sees before its first step."""

    observation: str  # "You are in the middle of a room. ..." without the goal
    goal: str  # "put a clean apple in fridge." without "Your task is to: "
    max_score: int | None = None  # None: the game counts no score, or knows no highest one


@dataclass(frozen=True)
class Reply:
    """The environment's answer to one action."""

    observation: str
    done: bool
    won: bool
    score: int | None = None  # so far; None: the game counts none


class Game(Protocol):
    """One game.

    `task` is its task's name ("alfworld"), `id` names the game within its split so that
    `--game ID` finds it again, `kind` is its type ("pick_clean_then_place_in_recep").
    """

    task: str
    id: str
    kind: str

    def reset(self) -> Opening:
        """Start anew, at the first call and at any later time; the same opening every time.

        Raises UserError when the game cannot be played, MachineError when no game can be
        played on this machine.
        """
        ...

    def step(self, action: str) -> Reply:
        """Play one command, whatever a model wrote: what makes no sense is refused in words.

        Only after `reset`. The same actions get the same replies.
        """
        ...

    def admissible(self) -> tuple[str, ...]:
        """The commands that would be accepted now, sorted; computed on request only."""
        ...

    def close(self) -> None:
        """Free what `reset` took. May be called twice; a later `reset` starts again."""
        ...


class PromptStyle(Protocol):
    """How a game is put to a model, and how its answers are read.

    `stop` ends an answer early; `max_tokens` bounds it. `note` is a sentence for whoever plays a
    model that asks for this style, "" where there is nothing to say. What has a body or a value
    may be left out.
    """

    name: str
    max_tokens: int
    stop: tuple[str, ...]
    note: str = ""

    def opening(self, opening: Opening) -> list[Message]:
        """The messages before the first answer; the last is the user's."""
        ...

    def shared(self, opening: Opening) -> list[Message]:
        """What is the same in the `opening` of other games, such as rules and a worked example.

        The last message ends where this game's own words begin; no messages where hardly anything
        is the same. Prompts that begin with it are read from there on.
        """
        return []

    def reply(self, observation: str) -> Message:
        """The user's message that tells what an action led to."""
        ...

    def parse(self, text: str) -> Parsed:
        """Thought and action of an answer. Never raises: no text at all is an empty action."""
        ...


class ScriptedPlayer(Protocol):
    """A scripted player of one game, who shows what the games allow."""

    def act(self) -> tuple[str, str]:
        """The next (thought, action). Asked again without `observe`, it says the same."""
        ...

    def observe(self, reply: str, action: str) -> None:
        """Take in the reply to an action, whoever chose it."""
        ...


@dataclass(frozen=True)
class Finding:
    """One line of `doctor`: what was looked at, what was found, and advice where it is wrong."""

    what: str
    found: str
    advice: str = ""
    stops: bool = False  # nothing can be played before the advice is taken


class Task(Protocol):
    """A family of games. It holds no state: everything of one game is in its `Game`.

    `splits` are the names that `--split` takes. `styles` are the prompt styles that models may
    ask for, by name; `default_style` is that of a model which asks for none. `drawn_kinds` are the
    types of the games that `draw` makes.
    """

    name: str
    splits: tuple[str, ...]
    styles: Mapping[str, PromptStyle]
    default_style: str
    drawn_kinds: tuple[str, ...] = ()

    @abstractmethod
    def games(self, split: str | None = None, folder: str | Path | None = None) -> Found:
        """The games of a split (None: the usual one) or of a folder, in an order that stays.

        Raises UserError: no such split, or both asked for. That there are none, `found_games` says
        where it is not said here.
        """
        ...

    @abstractmethod
    def open(self, game: GameRef) -> Game:
        """The game, checked and not yet started. Quick: nothing heavy is loaded before `reset`.

        Raises UserError for a damaged file.
        """
        ...

    @abstractmethod
    def refused(self, observation: str) -> bool:
        """Whether a reply says that the command was not possible."""
        ...

    def first_game(self, games: Sequence[GameRef]) -> str:
        """The selector (see `games.pick`) of what is played where no game is asked for."""
        return "0"

    def load_ahead(self) -> None:
        """Begin to load in a thread what the first `reset` needs; never raises."""
        return

    def player(self, opening: Opening, game: GameRef) -> ScriptedPlayer | None:
        """The scripted player of a game, which has just been opened; None where there is none.

        Raises ValueError for a goal that it does not understand.
        """
        return None

    def simulated(self, game: GameRef) -> Game:
        """The game for rollouts, which play it thousands of times: quicker, with the same replies.

        Without a simulator it is the game itself. Raises what `open` raises.
        """
        return self.open(game)

    def draw(self, kind: str, game_id: str, rng: Random) -> Game:
        """A new game of one of `drawn_kinds`, in memory alone; rollouts take as many as they like.

        The same state of `rng` gives the same game.
        """
        raise LookupError(f"{self.name} draws no games")

    def why_lost(self, goal: str, actions: Sequence[str]) -> str:
        """The class of a lost game, by the actions that were not refused: a few words to count."""
        return "out of steps"

    def calibration(self, style: PromptStyle) -> Iterator[list[Message]]:
        """Whole games as chats, on which an importance matrix is measured."""
        yield from ()

    def verification(self, style: PromptStyle) -> Iterator[list[Message]]:
        """A few whole games as chats, on which a tier is compared with F16; none of calibration."""
        yield from ()

    def generate(
        self,
        count: int,
        seed: int,
        out: Path,
        challenge: str | None = None,
        progress: Progress | None = None,
    ) -> list[GameRef]:
        """Write new games into a new or empty folder, each proven that it can be won.

        The same seed and index give the same game. `challenge` is their type, and None all types
        in turn. Raises UserError.
        """
        raise UserError(f"there is no generator of games for {self.name}")

    def examine(self) -> Iterator[Finding]:
        """What stands in the way of playing here. May load the engine; changes nothing."""
        yield from ()


@dataclass(frozen=True)
class ScriptedStep:
    """What a scripted player thought and did, and what came of it."""

    thought: str
    action: str
    reply: Reply


def scripted_steps(
    step: Callable[[str], Reply], player: ScriptedPlayer, limit: int
) -> Iterator[ScriptedStep]:
    """The steps of a game that has just been reset, to its end or for `limit` of them.

    `step` is the game's own. The player has seen a step when it is given out, so whoever reads
    on may ask it what it would do next.
    """
    for _ in range(limit):
        thought, action = player.act()
        reply = step(action)
        player.observe(reply.observation, action)
        yield ScriptedStep(thought, action, reply)
        if reply.done:
            return


def found_games(task: Task, split: str | None = None, folder: str | Path | None = None) -> Found:
    """The games of a split or a folder, one at least. Raises UserError."""
    found = task.games(split, folder)
    if not found.games:
        why = f" ({found.note})" if found.note else ""
        raise UserError(f"there are no games of {task.name} in {found.folder}{why}")
    return found


def chosen_games(
    task: Task,
    game: str | int | None = None,
    split: str | None = None,
    folder: str | Path | None = None,
) -> tuple[Found, str | int]:
    """The games to choose from, and the selector of one of them for `games.pick`.

    A `game` that names a file is that game and no other. Raises UserError.
    """
    if split is None and folder is None and isinstance(game, str) and os.path.isfile(game):
        return found_games(task, folder=game), 0
    found = found_games(task, split, folder)
    return found, task.first_game(found.games) if game is None else game
