"""The tasks that there are: the one place that knows them all."""

from __future__ import annotations

from typing import Final

from edge_router.errors import UserError
from edge_router.tasks.alfworld.task import Alfworld
from edge_router.tasks.games import nearest
from edge_router.tasks.protocol import Task

_tasks: dict[str, Task] = {task.name: task for task in (Alfworld(),)}
DEFAULT: Final = Alfworld.name


def register(task: Task) -> None:
    """Add a task for this process. Raises ValueError when the name is taken."""
    if task.name in _tasks:
        raise ValueError(f"there is a task {task.name!r} already")
    _tasks[task.name] = task


def tasks() -> tuple[Task, ...]:
    """All tasks, the default first."""
    return tuple(_tasks.values())


def task_names() -> tuple[str, ...]:
    """What `--task` takes."""
    return tuple(_tasks)


def find_task(name: str = DEFAULT) -> Task:
    """The task of that name. Raises `UserError` when there is none."""
    if name not in _tasks:
        near = nearest(name, _tasks)
        raise UserError(f"there is no task {name!r}{near}; tasks are {', '.join(_tasks)}")
    return _tasks[name]
