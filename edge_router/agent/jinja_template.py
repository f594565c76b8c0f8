"""Compile and render a chat template in this process, as Hugging Face's tokenizers do.

A template is a program: the sandbox keeps it from what lies outside, and nothing keeps it from
running for ever. `agent.template` decides where that may happen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_router.errors import UserError


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
