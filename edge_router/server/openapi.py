"""The OpenAPI document: made from the forms that requests are checked with, and from the bodies
that answers are typed with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

import edge_router
from edge_router.server.bodies import (
    ChatChunk,
    ChatCompletion,
    ErrorBody,
    Health,
    ModelBody,
    ModelList,
    TextChunk,
    TextCompletion,
)
from edge_router.server.forms import ChatForm, CompletionForm

Body = dict[str, Any]
_REF: Final = "#/components/schemas/{model}"
_KEY: Final = "key"
_WRONG: Final = {
    400: "The request is wrong, or asks for what cannot be done; the message says what.",
    401: "The API key is missing or wrong.",
    403: "The server answers to this machine alone.",
    404: "This model is not here.",
    413: "The body is too large.",
    415: "The body is not sent as JSON.",
    500: "The server made a mistake.",
    503: "Too many requests wait; Retry-After says when to come again.",
    504: "The answer took longer than a request may.",
}


@dataclass(frozen=True)
class Operation:
    """One route: what it takes, and what it answers."""

    method: Literal["GET", "POST"]
    path: str  # as Starlette writes it
    does: str
    reply: Any  # type of the body of a 200; None for one that is no JSON
    form: type[BaseModel] | None = None  # of the request's body
    chunk: Any = None  # type of a stream's events
    wrong: tuple[int, ...] = ()  # statuses of errors, besides those of a guarded route
    guarded: bool = True

    @property
    def statuses(self) -> tuple[int, ...]:
        """Those of all its errors."""
        asking = (400, 404, 413, 415, 503, 504) if self.form else ()
        return tuple(sorted({*asking, *self.wrong, *((401, 403, 500) if self.guarded else ())}))


CHAT: Final = Operation(
    "POST", "/v1/chat/completions", "Answer a conversation", ChatCompletion, ChatForm, ChatChunk
)
COMPLETE: Final = Operation(
    "POST", "/v1/completions", "Go on after a text", TextCompletion, CompletionForm, TextChunk
)
MODELS: Final = Operation("GET", "/v1/models", "List the models' names", ModelList)
MODEL: Final = Operation(
    "GET", "/v1/models/{name:path}", "Whether a model is here", ModelBody, wrong=(404,)
)
METRICS: Final = Operation("GET", "/metrics", "Counters, for Prometheus", None)
HEALTH: Final = Operation("GET", "/health", "Whether the server answers", Health, guarded=False)
DOCUMENT: Final = Operation("GET", "/openapi.json", "This document", dict[str, Any])
OPERATIONS: Final = (CHAT, COMPLETE, MODELS, MODEL, METRICS, HEALTH, DOCUMENT)


def document(served: str, names: Sequence[str], *, needs_key: bool) -> Body:
    """What a server that serves the model `served`, by these names, offers."""
    schemas = _schemas()
    for form in (ChatForm, CompletionForm):
        schemas[form.__name__]["properties"]["model"] = _model(served, names)
    wrong = {str(status): _content(said, ErrorBody) for status, said in _WRONG.items()}
    components: Body = {"schemas": schemas, "responses": wrong}
    told: Body = {
        "openapi": "3.1.0",
        "info": {"title": "edge-router", "version": edge_router.__version__},
        "paths": {},
        "components": components,
    }
    for one in OPERATIONS:
        path = one.path.replace(":path}", "}")
        told["paths"].setdefault(path, {})[one.method.lower()] = _operation(one, names, needs_key)
    if needs_key:
        components["securitySchemes"] = {_KEY: {"type": "http", "scheme": "bearer"}}
    return told


def _schemas() -> Body:
    """Of every form and body, by name."""
    forms = [(one.form, "validation") for one in OPERATIONS if one.form]
    bodies = [one.reply for one in OPERATIONS if one.reply] + [CHAT.chunk, COMPLETE.chunk]
    adapters = [(body, "serialization", TypeAdapter(body)) for body in (*bodies, ErrorBody)]
    _, of_forms = models_json_schema(forms, ref_template=_REF)  # type: ignore[arg-type]
    _, of_bodies = TypeAdapter.json_schemas(adapters, ref_template=_REF)  # type: ignore[arg-type]
    return {**of_bodies["$defs"], **of_forms["$defs"]}


def _model(served: str, names: Sequence[str]) -> Body:
    more = f"^{re.escape(served)}(@[^#]*)?(#.*)?$"
    return {
        "description": "Who writes: a dial may follow behind @, or a router behind #.",
        "anyOf": [{"enum": list(names)}, {"type": "string", "pattern": more}],
    }


def _operation(one: Operation, names: Sequence[str], needs_key: bool) -> Body:
    told: Body = {"summary": one.does, "responses": {"200": _answer(one)}}
    for status in one.statuses:
        told["responses"][str(status)] = {"$ref": f"#/components/responses/{status}"}
    if one.form is not None:
        content = {"application/json": {"schema": _ref(one.form)}}
        told["requestBody"] = {"required": True, "content": content}
    if "{name" in one.path:
        schema = {"type": "string", "minLength": 1}
        named = {"name": "name", "in": "path", "required": True, "schema": schema}
        told["parameters"] = [{**named, "example": names[0]}]
    if one.guarded and needs_key:
        told["security"] = [{_KEY: []}]
    return told


def _answer(one: Operation) -> Body:
    if one.reply is None:
        return {"description": one.does, "content": {"text/plain": {"schema": {"type": "string"}}}}
    if one is DOCUMENT:
        return {
            "description": one.does,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    told = _content(one.does, one.reply)
    if one.chunk is not None:
        told["description"] += ", whole or (stream: true) in events, of which the last is [DONE]"
        told["content"]["text/event-stream"] = {"schema": _event(one.chunk)}
    return told


def _event(chunk: Any) -> Body:
    """A server-sent event whose data is a chunk, but for the last one's."""
    piece = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": _ref(chunk),
    }
    data = {"anyOf": [{"const": "[DONE]"}, piece]}
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def _content(description: str, body: Any) -> Body:
    return {"description": description, "content": {"application/json": {"schema": _ref(body)}}}


def _ref(kind: Any) -> Body:
    return {"$ref": _REF.format(model=kind.__name__)}
