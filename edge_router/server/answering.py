"""From a request to a plan, which is checked, and which the worker then writes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edge_router.agent.events import Listener
from edge_router.agent.json_grammar import ANY_OBJECT, call_grammar, grammar_of
from edge_router.agent.response import Response
from edge_router.agent.tool_calls import way_of
from edge_router.api import AnswerOptions, RoutedModel
from edge_router.engine.constrain import Constraint
from edge_router.errors import UserError
from edge_router.router.base import Router
from edge_router.server.errors import ApiError
from edge_router.server.forms import (
    NO_LIMIT,
    Asking,
    ChatForm,
    CompletionForm,
    MessageForm,
    NamedTool,
)
from edge_router.server.names import parse_name


@dataclass
class Served:
    """A model as it is served: its name, and what routes it where a request says nothing."""

    name: str
    model: RoutedModel
    router: Router
    dial: float  # may be turned while the server runs
    lookup: int = 0  # tokens guessed at a time from the text itself


@dataclass(frozen=True)
class AnswerPlan:
    """What one request asks of the ladder."""

    model: RoutedModel
    router: str | Router
    options: AnswerOptions
    messages: list[dict[str, Any]] = field(default_factory=list)
    prompt: str = ""  # of a completion, which has no messages
    tools: list[dict[str, Any]] = field(default_factory=list)
    forced: bool = False  # a call has to come
    most_calls: int | None = None
    tier: str | None = None  # alone

    @property
    def spec(self) -> str:
        """The router that decides, in words that `--router` takes."""
        if self.tier is not None:
            return f"tier:{self.tier}"
        return self.router if isinstance(self.router, str) else str(self.router.spec)

    @property
    def said(self) -> Sequence[Mapping[str, Any]]:
        """The messages; a completion's text as the only one."""
        return self.messages or [{"role": "user", "content": self.prompt}]

    def write(self, on_text: Callable[[str], None], listeners: Sequence[Listener] = ()) -> Response:
        """The answer; in the thread that owns the ladder. Raises `UserError`."""
        model = self.model if self.tier is None else self.model.alone(self.tier)
        router = self.router if self.tier is None else self.spec
        heard: Any = {"router": router, "on_text": on_text, "listeners": listeners}
        if not self.messages:
            return model.complete(self.prompt, **heard, **self.options)
        response = model.chat(self.messages, tools=self.tools, **heard, **self.options)
        return replace(response, tool_calls=response.tool_calls[: self.most_calls])


def plan_chat(form: ChatForm, served: Served) -> AnswerPlan:
    """Raises `ApiError` and `UserError` for what cannot be done."""
    tools = [tool.model_dump(exclude_none=True) for tool in form.tools or ()]
    chosen = form.tool_choice
    if chosen == "none":
        tools = []
    if isinstance(chosen, NamedTool):
        tools = [tool for tool in tools if tool["function"]["name"] == chosen.function.name]
    forced = chosen == "required" or isinstance(chosen, NamedTool)
    options = _options(form, form.max_completion_tokens or form.max_tokens)
    if form.logprobs:
        options["likely"] = form.top_logprobs or 0
    template = served.model.ladder.vocab.chat_template
    options["constraint"] = (
        call_grammar(tools, way_of(template)) if forced else _format_of(form, has_tools=bool(tools))
    )
    messages = [_message(message) for message in form.messages]
    if messages[-1]["role"] == "assistant":
        raise ApiError(
            400,
            "the last message is the assistant's; add the message it should answer",
            param="messages",
        )
    most = 1 if form.parallel_tool_calls is False else None
    calling: Any = {"tools": tools, "forced": forced, "most_calls": most}
    return _planned(form, served, options, messages=messages, **calling)


def plan_completion(form: CompletionForm, served: Served) -> AnswerPlan:
    """Raises `ApiError` and `UserError` for what cannot be done."""
    options = _options(form, form.max_tokens or 16)  # as OpenAI's
    options["constraint"] = _format_of(form, has_tools=False)
    if form.logprobs is not None:
        options["likely"] = form.logprobs
    return _planned(form, served, options, prompt=form.text)


def _planned(form: Asking, served: Served, options: AnswerOptions, **rest: Any) -> AnswerPlan:
    name = parse_name(form.model, served.name, served.model.tiers)
    options["dial"] = served.dial if name.dial is None else name.dial
    options["lookup"] = served.lookup
    return AnswerPlan(served.model, name.router or served.router, options, tier=name.tier, **rest)


def _options(form: Asking, max_tokens: int | None) -> AnswerOptions:
    temperature = form.temperature or 0.0
    # Asked twice to draw something without a seed, one wants two answers.
    drawn = form.seed in (None, -1)  # -1 is llama.cpp's way to say so
    seed = (secrets.randbits(63) if temperature else 0) if drawn else form.seed or 0
    return AnswerOptions(
        max_tokens=max_tokens or NO_LIMIT,
        temperature=temperature,
        top_p=form.top_p or 1.0,
        min_p=form.min_p or 0.0,
        top_k=max(0, form.top_k or 0),
        seed=seed % 2**63,
        stop=form.stops,
    )


def _format_of(form: Asking, *, has_tools: bool) -> Constraint | None:
    wanted = form.response_format
    schema: Mapping[str, Any] | None = form.json_schema
    if wanted is not None and wanted.type != "text":
        schema = ANY_OBJECT if wanted.wanted is None else wanted.wanted
    if schema is None:
        return None
    if has_tools:
        raise ApiError(
            400,
            "response_format and tools exclude each other here; send tool_choice none, or a "
            "function whose arguments have that form",
            param="response_format",
        )
    return grammar_of(schema)


def _message(form: MessageForm) -> dict[str, Any]:
    role = "system" if form.role == "developer" else form.role
    content = form.content or ""
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    message: dict[str, Any] = {"role": role, "content": text}
    if form.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.function.name,
                    "arguments": _arguments(call.function.arguments),
                },
            }
            for call in form.tool_calls
        ]
    if role == "tool":
        message |= {"tool_call_id": form.tool_call_id or "", "name": form.name or ""}
    return message


def _arguments(told: str | dict[str, Any]) -> Mapping[str, Any]:
    if isinstance(told, dict):
        return told
    try:
        value = json.loads(told or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UserError("the arguments of an earlier tool call are no JSON object")
    return value
