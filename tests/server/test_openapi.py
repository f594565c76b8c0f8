"""The OpenAPI document describes the server that gives it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

import edge_router
from edge_router.server.bodies import ChatChunk, ChatCompletion, TextChunk, TextCompletion
from tests.serving import OPENING, RunningServer, running, short_context, user

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ASKED: list[tuple[str, dict[str, Any], Any, Any]] = [
    (CHAT, {"messages": [user(OPENING)]}, ChatCompletion, ChatChunk),
    (CHAT, {"messages": [user(OPENING)], "logprobs": True}, ChatCompletion, ChatChunk),
    (
        CHAT,
        {
            "messages": [user(OPENING)],
            "tools": [{"type": "function", "function": {"name": "go"}}],
            "tool_choice": "required",
        },
        ChatCompletion,
        ChatChunk,
    ),
    (COMPLETIONS, {"prompt": "task: put", "logprobs": 2}, TextCompletion, TextChunk),
]


server = pytest.fixture(scope="module")(short_context)


@pytest.fixture(scope="module")
def document(server: RunningServer) -> Any:
    return httpx.get(f"{server.root}/openapi.json").json()


def test_every_route_is_described(server: RunningServer, document: Any) -> None:
    described = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert ("POST", CHAT) in described
    for method, path in described:
        answer = httpx.request(method, server.root + path.replace("{name}", "household"))
        assert answer.status_code == (415 if method == "POST" else 200), path


def test_a_client_can_learn_which_models_there_are(document: Any) -> None:
    model = document["components"]["schemas"]["ChatForm"]["properties"]["model"]
    assert "household:q8_0" in model["anyOf"][0]["enum"]


@pytest.mark.parametrize(("path", "body", "whole", "chunk"), ASKED)
def test_answers_have_the_form_that_is_described(
    server: RunningServer, path: str, body: dict[str, Any], whole: Any, chunk: Any
) -> None:
    asked = {"model": "household", "max_tokens": 30, **body}
    answer = httpx.post(server.root + path, json=asked)
    TypeAdapter(whole).validate_json(answer.text, strict=True)
    options = {"include_usage": True}
    streamed = httpx.post(
        server.root + path, json={**asked, "stream": True, "stream_options": options}
    )
    *events, done = streamed.text.split("\n\n")[:-1]
    assert done == "data: [DONE]"
    assert len(events) > 2
    for event in events:
        TypeAdapter(chunk).validate_json(event.removeprefix("data: "), strict=True)


def test_a_key_is_asked_for_where_the_document_says_so() -> None:
    with (
        edge_router.load("household", threads=1) as model,
        running(model, key="correct-horse") as server,
    ):
        assert httpx.get(f"{server.root}/openapi.json").status_code == 401
        headers = {"Authorization": "Bearer correct-horse"}
        told = httpx.get(f"{server.root}/openapi.json", headers=headers).json()
    assert told["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, operations in told["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (path != "/health")
