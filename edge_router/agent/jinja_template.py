"""Compile and render a chat template, as Hugging Face's tokenizers do.

A template is a program: the sandbox keeps it from what lies outside, and nothing keeps it from
running for ever. `JinjaTemplate` renders it in this process, `ConfinedTemplate` a stranger's in a
process of its own (`work.processes`), which serves it for as long as it is wanted. `agent.template`
decides which.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NoReturn

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_router.errors import UserError
from edge_router.work.processes import ChildLimits, Confined, EndedError, serve


class JinjaTemplate:
    """A compiled template. Raises `UserError` when it is not valid."""

    def __init__(self, source: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, "jinja2.ext.loopcontrols"],
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _now
        try:
            self._template = environment.from_string(source)
        except Exception as error:  # Python's own too: it is compiled to Python
            raise UserError(
                f"the model's chat template is not valid Jinja: {_said_by(error)}"
            ) from error

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text that the template makes. Raises `UserError` when it refuses or fails."""
        try:
            text = self._template.render(variables)
            text.encode("utf-8")  # half a surrogate pair is no text
        except Exception as error:  # it is a program: it may divide by zero
            raise UserError(
                f"the model's chat template refuses the prompt: {_said_by(error)}"
            ) from error
        return text


def _said_by(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


class _Generation(Extension):
    """{% generation %}: marks the assistant's text for training; here it shows what is inside."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


# -- in a process of its own ----------------------------------------------------------------------

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
        child = Confined("edge_router.agent.jinja_template", str(self._seconds))
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
