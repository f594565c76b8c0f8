"""The tasks that there are: ours, those that installed packages offer, and those that a user names.

A package offers one in its entry points:

    [project.entry-points."edge_router.tasks"]
    counting = "my_package.counting:CountingTask"

Whoever calls `my_package.counting:CountingTask` without arguments gets the `Task`. `add_task` takes
the same text from a user; the processes that are started from then on know the task as well.

In which of a task's prompt styles a model is asked, ladder.toml says (`prompt = "react"`), and so
may a GGUF, in the metadata key `edge_router.prompt_style`. A model that says nothing gets the
task's default.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from edge_router.errors import UserError
from edge_router.tasks.alfworld.task import Alfworld
from edge_router.tasks.games import nearest
from edge_router.tasks.protocol import PromptStyle, Task
from edge_router.tasks.textworld.task import Textworld

GROUP: Final = "edge_router.tasks"
_NAMED: Final = "EDGE_ROUTER_TASKS"  # what `add_task` was given, for the processes started here
_tasks: dict[str, Task] = {task.name: task for task in (Alfworld(), Textworld())}
DEFAULT: Final = Alfworld.name
_PARTS: Final = ("name", "splits", "styles", "default_style", "games", "open", "refused")


def register(task: Task) -> None:
    """Add a task for this process. Raises ValueError when the name is taken."""
    if task.name in _tasks:
        raise ValueError(f"there is a task {task.name!r} already")
    _tasks[task.name] = task


def add(task: Any, source: str = "the program") -> Task:
    """Add a task that `source` made; the same kind of task once more changes nothing.

    Raises `UserError` for what is no task, and when the name is another task's.
    """
    missing = [part for part in _PARTS if not hasattr(task, part)]
    if missing:
        raise UserError(f"{source} makes no task: it has no {', '.join(missing)}")
    known = _tasks.setdefault(task.name, task)
    if type(known) is not type(task):
        raise UserError(f"{source} makes a task {task.name!r}, and there is one of that name")
    return known


def add_task(text: str) -> str:
    """Add the task that "package.module:factory" makes; returns its name. Raises `UserError`.

    It runs that code, so the text must come from the user and from no file.
    """
    module, _, factory = text.partition(":")
    try:
        task = getattr(import_module(module), factory)()
    except Exception as error:  # it is the user's own code, and may fail in any way
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"--task {text} gives no task: {said} (is {module} installed, or on PYTHONPATH?)"
        ) from error
    add(task, text)
    known = os.environ.get(_NAMED, "").split()
    os.environ[_NAMED] = " ".join(dict.fromkeys([*known, text]))
    return str(task.name)


def tasks() -> tuple[Task, ...]:
    """All tasks that are loaded, the default first."""
    return tuple(_tasks.values())


def task_names() -> tuple[str, ...]:
    """What `--task` takes."""
    return tuple(dict.fromkeys([*_tasks, *_offered()]))


def find_task(name: str = DEFAULT) -> Task:
    """The task of that name. Raises `UserError` when there is none, or it cannot be loaded."""
    if name not in _tasks and name in _offered():
        _load(_offered()[name])
    if name not in _tasks:
        for text in os.environ.get(_NAMED, "").split():
            add_task(text)
    if name not in _tasks:
        known = task_names()
        there = ", ".join(known)
        raise UserError(f"there is no task {name!r}{nearest(name, known)}; tasks are {there}")
    return _tasks[name]


@cache
def _offered() -> dict[str, EntryPoint]:
    """The tasks of installed packages by name, not loaded yet."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> None:
    try:
        task = entry.load()()
    except Exception as error:  # a stranger's package may fail in any way
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"the task {entry.name} of {entry.value} cannot be loaded: {said}"
        ) from error
    add(task, entry.value)
    if task.name != entry.name:
        raise UserError(f"the task {entry.name} of {entry.value} calls itself {task.name!r}")


# -- prompt styles --------------------------------------------------------------------------------

METADATA_KEY = "edge_router.prompt_style"


def style_for(task: Task, metadata: Mapping[str, str], prompt: str = "") -> PromptStyle:
    """The style called `prompt`; "" is the one that the GGUF asks for. Raises `UserError`."""
    name = prompt or metadata.get(METADATA_KEY, task.default_style)
    if name not in task.styles:
        raise UserError(
            f"there is no prompt style {name!r} for {task.name}; styles are {_listed(task.styles)}"
        )
    return task.styles[name]


def prompt_override(task: Task, prompt: str, files: Sequence[Mapping[str, str]]) -> str:
    """`prompt`, or "" where every file's metadata asks for that style by itself.

    Results that are kept by what they depend on are then found again whether a ladder names its
    model's own style or leaves it out. Raises `UserError` for a style that there is not.
    """
    if prompt and all(style_for(task, m) is style_for(task, m, prompt) for m in files):
        return ""
    return prompt


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
