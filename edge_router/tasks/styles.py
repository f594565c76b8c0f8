"""Which of a task's prompt styles a model is asked in.

ladder.toml names the style (`prompt = "react"`), and so may a GGUF, in the metadata key
`edge_router.prompt_style`. A model that says nothing gets the task's default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from edge_router.errors import UserError
from edge_router.tasks.protocol import PromptStyle, Task

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
