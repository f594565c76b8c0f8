"""Render a stranger's chat template in a process of its own (`work.processes`).

The child serves one template for as long as it is wanted.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import Any, Final

from edge_router.agent.jinja_template import JinjaTemplate
from edge_router.errors import UserError
from edge_router.work.processes import ChildLimits, Confined, EndedError, serve

SECONDS: Final = 5.0
MEMORY_BYTES: Final = 512_000_000
TEXT_LENGTH: Final = 4_000_000  # letters: more than any context holds


class ConfinedTemplate:
    """A template in a child process. Raises `UserError` when it is not valid."""

    def __init__(self, source: str, *, seconds: float = SECONDS) -> None:
        self._source = source
        self._seconds = seconds
        self._lock = threading.Lock()
        with self._lock:
            self._child = self._start()

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text that the template makes. Raises `UserError` when it refuses or is stopped."""
        with self._lock:
            if not self._child.usable:
                self._child = self._start()
            return self._ask(self._child, variables)

    def _start(self) -> Confined:
        child = Confined("edge_router.agent.confined_template", str(self._seconds))
        self._ask(child, {"source": self._source})
        return child

    def _ask(self, child: Confined, message: Mapping[str, Any]) -> str:
        try:
            said = child.ask(message)
        except EndedError as error:
            raise UserError(_why(error, self._seconds)) from error
        if "error" in said:
            raise UserError(said["error"])
        return str(said["text"])


def _why(error: EndedError, seconds: float) -> str:
    if error.too_slow:
        return f"the model's chat template computes for more than {seconds:g} s and was stopped"
    return f"the model's chat template ends the process that runs it (status {error.status})"


# -- the child ------------------------------------------------------------------------------------


class _Renderer:
    """Compiles the template of the first message, and renders it for every other one."""

    def __init__(self) -> None:
        self._template: JinjaTemplate | None = None

    def answer(self, message: dict[str, Any]) -> dict[str, str]:
        try:
            text = self._text(message)
        except UserError as error:
            return {"error": _TOO_MUCH if isinstance(error.__cause__, MemoryError) else str(error)}
        return {"text": text} if len(text) <= TEXT_LENGTH else {"error": _TOO_LONG}

    def _text(self, message: dict[str, Any]) -> str:
        if self._template is None:
            self._template = JinjaTemplate(message["source"])
            return ""
        return self._template.render(message)


_TOO_LONG: Final = f"the model's chat template writes more than {TEXT_LENGTH} letters"
_TOO_MUCH: Final = (
    f"the model's chat template takes more than {MEMORY_BYTES / 1e6:.0f} MB of memory"
)

if __name__ == "__main__":
    serve(_Renderer().answer, ChildLimits(float(sys.argv[1]), MEMORY_BYTES))
