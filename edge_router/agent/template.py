"""Render a GGUF's own chat template, as Hugging Face's tokenizers do.

The template is a Jinja program that comes with the model's file: it runs in a
sandbox and sees nothing but the messages. A model without a template gets
ChatML, the most common one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_router.errors import UserError

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# What Qwen3's template prints for "no reasoning", taken apart.
THINK = "<think>"
NO_THOUGHT = "\n\n</think>\n\n"


class ChatTemplate:
    """`bos` and `eos` are the texts of these tokens ("" for none), which templates may print."""

    def __init__(self, source: str | None, *, bos: str = "", eos: str = "") -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, "jinja2.ext.loopcontrols"],
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _now
        try:
            self._template = environment.from_string(source or CHATML)
        except TemplateError as error:
            told = " ".join(str(error).split())
            raise UserError(f"the model's chat template is not valid Jinja: {told}") from error
        self._tokens = {"bos_token": bos, "eos_token": eos}

    def render(self, messages: Sequence[dict[str, str]], *, lead: bool = True) -> str:
        """The conversation, with the lead-in to the model's next answer unless `lead` is False.

        Reasoning is switched off: Qwen3's template knows how, and where a
        template begins it for the model (DeepSeek-R1's) it is ended at once.
        Raises UserError when the template refuses.
        """
        try:
            text = self._template.render(
                messages=list(messages),
                tools=None,  # templates tell "none" and "undefined" apart
                documents=None,
                add_generation_prompt=lead,
                enable_thinking=False,  # Qwen3: answer without a reasoning block
                **self._tokens,
            )
        except Exception as error:  # it is a program: it may divide by zero
            told = " ".join(str(error).split())
            raise UserError(f"the model's chat template refuses the prompt: {told}") from error
        return f"{text.rstrip()}{NO_THOUGHT}" if lead and text.rstrip().endswith(THINK) else text


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
