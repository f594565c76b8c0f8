"""Calls of functions in a conversation: how a model is told of them, and how it writes them.

Two ways of writing are read, whichever a model was trained on:

    Hermes, Qwen   <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>, any number
    Llama          {"name": "add", "parameters": {"a": 1}}, as the whole answer

A model is told of the functions by its own chat template. One whose template knows none is told
in a system message, in the way of Hermes, and sees earlier calls and their results as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import uuid4

BEGIN: Final = "<tool_call>"
END: Final = "</tool_call>"
Way = Literal["hermes", "llama"]
Tool = Mapping[str, Any]  # {"type": "function", "function": {"name": ..., "parameters": ...}}

_KNOWS: Final = re.compile(r"\btools\b")


@dataclass(frozen=True)
class ToolCall:
    """A function that the model asks for; `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str

    def message(self) -> dict[str, Any]:
        """The call as a part of the assistant's message, as templates read it."""
        function = {"name": self.name, "arguments": json.loads(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


def way_of(template: str | None) -> Way:
    """How models with this chat template write calls."""
    source = template or ""
    speaks_llama = "python_tag" in source or '"parameters"' in source
    return "llama" if speaks_llama and BEGIN not in source else "hermes"


def names_of(tools: Iterable[Tool]) -> tuple[str, ...]:
    """The functions' names."""
    return tuple(tool["function"]["name"] for tool in tools)


def parse(text: str, names: Sequence[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """What an answer says besides its calls, and the calls; others than of `names` stay text."""
    if BEGIN in text:
        before, *parts = text.split(BEGIN)
        calls = [call for part in parts for call in _calls(part.split(END)[0], names)]
        return (before.strip(), tuple(calls)) if calls else (text, ())
    calls = _calls(text.strip(), names)
    return ("", tuple(calls)) if calls else (text, ())


def may_begin(text: str) -> int:
    """Length of the beginning of `text` that can be no part of a call, whatever follows."""
    if text.lstrip().startswith("{") or not text.strip():
        return 0
    at = text.find(BEGIN)
    if at >= 0:
        return at
    ends = (n for n in range(min(len(BEGIN), len(text)), 0, -1) if text.endswith(BEGIN[:n]))
    return len(text) - next(ends, 0)


def _calls(text: str, names: Sequence[str]) -> list[ToolCall]:
    """Calls written one after another, with semicolons between them or none."""
    found, rest = [], text.strip()
    while rest:
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
        except (ValueError, RecursionError):
            return []
        call = _call(value, names)
        if call is None:
            return []
        found.append(call)
        rest = rest[end:].lstrip(" \n\t;")
    return found


def _call(value: object, names: Sequence[str]) -> ToolCall | None:
    if not isinstance(value, dict) or value.get("name") not in names:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if not isinstance(arguments, dict):
        return None
    return ToolCall(f"call_{uuid4().hex[:24]}", value["name"], json.dumps(arguments))


# -- models whose template knows no functions ---------------------------------------------------


def knows_tools(template: str | None) -> bool:
    """Whether a chat template reads the variable `tools`."""
    return _KNOWS.search(template or "") is not None


def in_words(messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The conversation for such a template: functions, calls and results as plain text."""
    said = [_plain(message) for message in messages]
    if not tools:
        return said
    listed = "\n".join(json.dumps(tool) for tool in tools)
    told = _TOLD.format(listed=listed)
    if said and said[0]["role"] == "system":
        first = {**said[0], "content": f"{said[0]['content']}\n\n{told}"}
        return [first, *said[1:]]
    return [{"role": "system", "content": told}, *said]


_TOLD: Final = """You may call these functions:
<tools>
{listed}
</tools>
To call one, answer with a JSON object of its name and arguments between tags:
<tool_call>
{{"name": "the function's name", "arguments": {{}}}}
</tool_call>"""


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        told = f"<tool_response>\n{message['content']}\n</tool_response>"
        return {"role": "user", "content": told}
    return {"role": message["role"], "content": text_of(message)}


def text_of(message: Mapping[str, Any]) -> str:
    """A message as the model that wrote it would have written it."""
    parts = [message["content"]] if message.get("content") else []
    for call in message.get("tool_calls", ()):
        function = call["function"]
        body = json.dumps({"name": function["name"], "arguments": function["arguments"]})
        parts.append(f"{BEGIN}\n{body}\n{END}")
    return "\n".join(parts)
