"""Chats from a JSON Lines file: what a router for a chat model or an agent is trained on.

    {"messages": [{"role": "user", "content": "What is 2 + 2?"}]}
    {"messages": [...], "tools": [{"type": "function", "function": {"name": "add", ...}}]}

Messages and tools have OpenAI's form. Every turn of the assistant's is a step, and so is the
answer to a last message that is not the assistant's. A file may come from anybody: whatever is
wrong is one sentence with the line's number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn

from edge_router.agent.messages import ChatMessage
from edge_router.agent.tool_calls import Tool
from edge_router.errors import UserError
from edge_router.files.data_files import parse_json, read_file
from edge_router.tasks.protocol import Game

MAX_BYTES: Final = 256 << 20
FORM: Final = '{"messages": [{"role": "user", "content": "..."}]}'
PROMPTS: Final = "prompts"  # the task that is a file of chats
_ROLES: Final = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class PromptGame:
    """A recorded chat; `text` is its content as JSON, `line` where it stood."""

    text: str
    line: int

    @property
    def task(self) -> str:
        return PROMPTS

    @property
    def key(self) -> str:
        return f"prompt/{hashlib.sha256(self.text.encode()).hexdigest()[:32]}"

    @property
    def kind(self) -> str:
        return "tools" if self.tools else "chat"

    @cached_property
    def _content(self) -> dict[str, Any]:
        return dict(json.loads(self.text))

    @property
    def messages(self) -> Sequence[ChatMessage]:
        return list(self._content["messages"])

    @property
    def tools(self) -> Sequence[Tool]:
        return list(self._content["tools"])

    @property
    def steps(self) -> tuple[int, ...]:
        """How many messages stand before each answer."""
        roles = [message["role"] for message in self.messages]
        ends = [index for index, role in enumerate(roles) if role == "assistant"]
        return tuple(ends if roles[-1] == "assistant" else [*ends, len(roles)])

    def open(self) -> Game:
        """There is nothing to open: what follows an answer was recorded."""
        raise NotImplementedError("a recorded chat has no environment")


def read_prompts(path: Path) -> list[PromptGame]:
    """The chats of a file, each once, in its order. Raises `UserError`."""
    found: dict[str, PromptGame] = {}
    for number, line in enumerate(read_file(path, "prompts", limit=MAX_BYTES).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            text = _checked(parse_json(line))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
        found.setdefault(text, PromptGame(text, number))
    if not found:
        raise UserError(f"{path} holds no prompts; write one a line: {FORM}")
    return list(found.values())


# -- one line -------------------------------------------------------------------------------------


def _checked(data: Any) -> str:
    """The line in one spelling. Raises ValueError with a reason that a person can read."""
    if not isinstance(data, dict) or not isinstance(data.get("messages"), list):
        raise ValueError(f"it has no messages; a line is {FORM}")
    if not data["messages"]:
        raise ValueError(f"its list of messages is empty; a line is {FORM}")
    messages = [_message(m, n) for n, m in enumerate(data["messages"], 1)]
    _check_order(messages)
    content = {"messages": messages, "tools": _tools(data.get("tools"))}
    return json.dumps(content, sort_keys=True, ensure_ascii=True)


def _message(data: Any, number: int) -> dict[str, Any]:
    role = data.get("role") if isinstance(data, dict) else None
    role = "system" if role == "developer" else role
    if role not in _ROLES:
        _refuse(number, f"has the role {role!r:.40}; there are {', '.join(_ROLES)}")
    message: dict[str, Any] = {"role": role, "content": _text(data.get("content"))}
    calls = data.get("tool_calls")
    if calls and role == "assistant":
        message["tool_calls"] = [_call(call, number) for call in calls]
    if message["content"] is None:
        if not message.get("tool_calls"):
            _refuse(number, "has no content: a text is needed")
        message["content"] = ""
    if role == "tool":
        message |= {key: str(data.get(key) or "") for key in ("tool_call_id", "name")}
    return message


def _text(content: Any) -> str | None:
    """A text, whole or in parts; None for anything else."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        texts = [text for text in parts if isinstance(text, str)]
        return "".join(texts) if texts and len(texts) == len(content) else None
    return content if isinstance(content, str) else None


def _call(data: Any, number: int) -> dict[str, Any]:
    function = data.get("function") if isinstance(data, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not isinstance(function, dict):
        _refuse(number, 'has a call without a function: {"function": {"name": ...}}')
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = parse_json(arguments)
        except ValueError:
            arguments = None
    if not isinstance(arguments, dict):
        _refuse(number, f"calls {name} with arguments that are no JSON object")
    named = {"name": name, "arguments": arguments}
    return {"id": str(data.get("id") or ""), "type": "function", "function": named}


def _check_order(messages: Sequence[ChatMessage]) -> None:
    """System first, then the user; an answer to each, and results behind the calls they are of."""
    before: ChatMessage = {"role": "system"}
    for number, message in enumerate(messages, 1):
        role, last = message["role"], before["role"]
        if role == "system" and last != "system":
            _refuse(number, "is the system's, which has to be in front of all others")
        if role == "assistant" and last == "system":
            _refuse(number, "is the assistant's; a chat begins with the user's")
        if role == "assistant" and last == "assistant":
            _refuse(number, "is the assistant's, and so is the one before it")
        if role == "tool" and last != "tool" and not before.get("tool_calls"):
            _refuse(number, "is a tool's, and the one before it calls none")
        before = message
    if before["role"] == "system":
        raise ValueError("it has no message of the user's")


def _tools(data: Any) -> list[dict[str, Any]]:
    if data is None:
        return []
    if not isinstance(data, list):
        raise ValueError("its tools are no list")
    for tool in data:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError(
                'a tool is {"type": "function", "function": {"name": ..., "parameters": {...}}}'
            )
    return data


def _refuse(number: int, why: str) -> NoReturn:
    raise ValueError(f"message {number} {why}")
