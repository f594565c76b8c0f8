"""Types of the commands' options: paths with ~ expanded, and names that a shell can complete.

A shell expands ~ at the start of a word only, so `--games=~/x`, `a=~/x.gguf` and `onnx:~/r.onnx`
arrive as they were typed. Every option that holds a path has one of the types below, which
expands it wherever the value comes from: the command line, the environment or config.toml.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edge_router.errors import UserError

Names = Callable[[], Iterable[str]]
EMPTY = "it is empty: give a value, or leave the option out"
_TILDE = re.compile(r"(?:^|(?<=[=:,]))~[^/=:,@]*")  # at the start, and behind = : and ,


def expanded(text: str) -> str:
    """`text` with every ~ and ~user that starts a path expanded, as a shell would.

    A name that no user has stays as it is. Raises `UserError` for ~ where there is no home.
    """
    return _TILDE.sub(lambda found: _home_of(found[0], text), text)


def _home_of(tilde: str, text: str) -> str:
    home = os.path.expanduser(tilde)
    if home == tilde == "~":
        raise UserError(f"the ~ in {text} stands for no folder: this user has no home folder")
    return home


class UserPath(click.Path):
    """A path, as `pathlib.Path`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = os.fspath(value)
        if text == "":
            self.fail(EMPTY, param, ctx)
        if text.startswith("~"):
            first, slash, rest = text.partition("/")
            text = expanded(first) + slash + rest
        return super().convert(text, param, ctx)


class Word(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on
    """A text that says something: "$UNSET" in a script arrives as an empty one."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not isinstance(value, str):
            self.fail(f"{value!r} is not a text", param, ctx)
        if not value.strip():
            self.fail(EMPTY, param, ctx)
        return value


class Spelled(Word):
    """A text that may hold paths, as `str`; `names` are what a shell completes it with."""

    def __init__(self, names: Names | None = None, *, files: bool = False) -> None:
        self._names = names
        self._files = files

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return expanded(super().convert(value, param, ctx))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            known = [name for name in (self._names or list)() if name.startswith(incomplete)]
        except UserError:
            known = []
        if known or not self._files:
            return [CompletionItem(name) for name in known]
        return [CompletionItem(incomplete, type="file")]


class TaskName(Spelled):
    """A task by name, or "package.module:factory", which is called for it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = super().convert(value, param, ctx)
        if ":" not in text:
            return text
        from edge_router.tasks.registry import add_task

        return add_task(text)


class Whole(click.IntRange):
    """A whole number from `least` to `most`; the help shows the lower end alone."""

    name = "integer"

    def __init__(self, least: int, most: int) -> None:
        super().__init__(min=least)
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = int(super().convert(value, param, ctx))
        if number > self.most:
            self.fail(f"{number!s:.30} is more than {self.most}", param, ctx)
        return number


class Layers(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on
    """How many layers a GPU computes: "auto", or a whole number, -1 for all."""

    name = "layers"
    _number = Whole(-1, 9_999)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if value == "auto":
            return "auto"
        if isinstance(value, bool | float) or not re.fullmatch(r"-?\d+", str(value)):
            self.fail(f"{value!r} is neither auto nor a whole number", param, ctx)
        return self._number.convert(value, param, ctx)


class Real(click.types.FloatParamType):
    """A finite number: "nan" and "inf" are numbers to Python."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class Number(Real, click.FloatRange):
    """A finite number of at least `least`."""

    name = "float"


class UpToProcessors(click.IntRange):
    """A number from 1 to `each` for each processor: more freeze the machine and gain nothing."""

    name = "integer"

    def __init__(self, each: int = 1) -> None:
        super().__init__(min=1)
        self.each = each

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = int(super().convert(value, param, ctx))
        from edge_router.engine.machine import processors

        if number > self.each * processors():
            self.fail(
                f"{number} is more than this machine's {processors()} processors can use; "
                f"give {self.each * processors()} or fewer",
                param,
                ctx,
            )
        return number


# -- what there is to choose from -------------------------------------------------------------


def _models() -> Iterable[str]:
    from edge_router.ladders.resolve import model_names

    return model_names()


def _fetchable() -> Iterable[str]:
    from edge_router.ladders.catalogue import catalogue

    return catalogue()


def _routers() -> Iterable[str]:
    from edge_router.router.registry import kinds

    colon = {kind.name: ":" if kind.argument and not kind.optional else "" for kind in kinds()}
    return ["auto", *(f"{name}{colon[name]}" for name in colon)]


def _splits() -> Iterable[str]:
    from edge_router.tasks.registry import tasks

    return dict.fromkeys(split for task in tasks() for split in task.splits)


def _games() -> Iterable[str]:
    from edge_router.tasks.registry import find_task

    return ["random", *(game.id for game in find_task().games().games)]


def _tasks() -> Iterable[str]:
    from edge_router.tasks.registry import task_names

    return task_names()


def _kv_modes() -> Iterable[str]:
    return ("handoff", "handoff:", "exact")


SEED = Whole(0, 2**63 - 1)
STEPS = Whole(1, 100_000)
COUNT = Whole(1, 1_000_000)  # of games, tokens, repeats
GUESS = Whole(0, 15)  # with the token before it, as many rows as a batch has
COUNT_OR_NONE = Whole(0, 1_000_000)
POSITIONS = Whole(16, 1_000_000)  # tokens that are compared
CONTEXT = Whole(64, 1 << 24)  # tokens
LAYERS = Layers()
SHARE = Number(0.0, 1.0)
PACE = Number(0.0)  # seconds
PORT = Whole(0, 65_535)
SECONDS = Number(0.0, min_open=True)
SPEED = Number(0.0, min_open=True)
RATE = Number(0.0, 1.0, min_open=True)  # of learning
WEIGHT = Number(0.0)  # of a term in a sum
GROUP_SIZE = Whole(2, 10_000)  # one alone differs from nothing
REAL = Real()  # whoever takes it knows its range

FILE = UserPath()
WORD = Word()  # no path
TEXT = Spelled()  # NAME=PATH, or a name that may also be a path
MODEL = Spelled(_models, files=True)
FETCHABLE = Spelled(_fetchable, files=True)
ROUTER = Spelled(_routers)
SPLIT = Spelled(_splits)
GAME = Spelled(_games, files=True)
KV = Spelled(_kv_modes)
TASK = TaskName(_tasks)
THREADS = UpToProcessors()
JOBS = UpToProcessors(each=4)  # two games at once may be wanted on one processor


def thread_numbers(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, ...]:
    """Numbers of threads joined by commas, as llama-bench's -t has them; () where none is given."""
    words = [] if value is None else [word.strip() for word in value.split(",")]
    return tuple(dict.fromkeys(int(THREADS.convert(word, param, ctx)) for word in words))
