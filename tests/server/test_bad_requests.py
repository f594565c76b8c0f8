"""What is wrong with a request is said in one sentence, in OpenAI's form and with its status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import edge_router
from edge_router.server.forms import MOST_STOPS
from edge_router.server.guard import MOST_BYTES
from tests.serving import RunningServer, running, user

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TOOL = {"type": "function", "function": {"name": "go"}}
HI = [user("hi")]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with edge_router.load("household", threads=1) as model, running(model) as started:
        yield started


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "household", "messages": HI, **fields}).encode()


def completion(**fields: Any) -> bytes:
    return json.dumps({"model": "household", "prompt": "hi", **fields}).encode()


def schema(schema: Any) -> bytes:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return chat(response_format=form)


def forced(**parameters: Any) -> bytes:
    tool = {"type": "function", "function": {"name": "go", "parameters": parameters}}
    return chat(tools=[tool], tool_choice="required")


def deep(levels: int) -> Any:
    part: Any = {"type": "integer"}
    for _ in range(levels):
        part = {"type": "array", "items": part}
    return part


BAD: list[tuple[str, bytes, int, str]] = [
    (CHAT, b"", 400, "Invalid JSON"),
    (CHAT, b"{", 400, "Invalid JSON"),
    (CHAT, b"[]", 400, "valid dictionary|object"),
    (CHAT, b"\xff\xfe", 400, "Invalid JSON"),
    (CHAT, b"[" * 100_000, 400, "Invalid JSON"),
    (CHAT, b'{"messages": [{"role": "user", "content": "x"}]}', 400, "model: Field required"),
    (CHAT, b'{"model": "household"}', 400, "messages: Field required"),
    (CHAT, chat(messages=[]), 400, "messages: .*at least 1"),
    (CHAT, chat(messages="hi"), 400, "messages: .*array"),
    (CHAT, chat(messages=[{"role": "user"}]), 400, r"messages\[0\]: a message needs content"),
    (
        CHAT,
        chat(messages=[{"role": "robot", "content": "x"}]),
        400,
        r"messages\[0\].role: .*'user'",
    ),
    (
        CHAT,
        chat(messages=[{"role": "user", "content": 5}]),
        400,
        r"messages\[0\].content: .*string",
    ),
    (
        CHAT,
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        400,
        r"messages\[0\].content\[0\].type: .*'text'",
    ),
    (CHAT, chat(messages=[*HI, {"role": "assistant", "content": "x"}]), 400, "the assistant's"),
    (
        CHAT,
        chat(
            messages=[
                *HI,
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "go", "arguments": "["}}],
                },
                {"role": "tool", "content": "x"},
            ]
        ),
        400,
        "no JSON object",
    ),
    (CHAT, chat(model="gpt-4o"), 404, "'gpt-4o' is not here; this server has household"),
    (CHAT, chat(model=""), 404, "is not here"),
    (CHAT, chat(model=None), 400, "model: .*string"),
    (CHAT, chat(model="household:q2"), 404, "no tier 'q2'; there are iq1_s, q8_0"),
    (CHAT, chat(model="household:"), 404, "no tier ''"),
    (CHAT, chat(model="household@2"), 404, "dial goes from 0 to 1"),
    (CHAT, chat(model="household@nan"), 404, "dial goes from 0 to 1"),
    (CHAT, chat(model="household#nobody"), 404, "no router 'nobody'"),
    (CHAT, chat(model="household#entropy:x"), 404, "not a number"),
    (CHAT, chat(model="household#onnx:/etc/passwd"), 404, "chosen where the server is started"),
    (CHAT, chat(model="household:q8_0#high"), 404, "neither dial nor router"),
    (CHAT, chat(max_tokens=0), 400, "max_tokens: .*at least 1"),
    (CHAT, chat(max_tokens="5"), 400, "max_tokens: .*integer"),
    (CHAT, chat(temperature=-1), 400, "temperature: .*greater than or equal to 0"),
    (CHAT, chat(temperature=3), 400, "temperature: .*less than or equal to 2"),
    (CHAT, b'{"model": "household", "messages": [], "temperature": NaN}', 400, "temperature|JSON"),
    (CHAT, chat(top_k=-2), 400, "top_k: .*greater than or equal to -1"),
    (CHAT, chat(top_p=0), 400, "top_p: .*greater than 0"),
    (CHAT, chat(n=2), 400, "n: .*1"),
    (CHAT, chat(stream="yes"), 400, "stream: .*boolean"),
    (CHAT, chat(stop=["x"] * (MOST_STOPS + 1)), 400, "stop: .*at most"),
    (CHAT, chat(frequency_penalty=0.5), 400, "frequency_penalty: penalties are not offered"),
    (CHAT, chat(logit_bias={"5": 1}), 400, "logit_bias: it is not offered"),
    (CHAT, chat(top_logprobs=3), 400, "needs logprobs"),
    (CHAT, chat(logprobs=True, top_logprobs=50), 400, "top_logprobs: .*20"),
    (CHAT, chat(tool_choice="required"), 400, "there are no tools"),
    (CHAT, chat(tools=[TOOL], tool_choice="sometimes"), 400, "tool_choice"),
    (
        CHAT,
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "fly"}}),
        400,
        "'fly', which is no tool",
    ),
    (CHAT, chat(tools=[{"type": "function"}]), 400, r"tools\[0\].function: Field required"),
    (
        CHAT,
        chat(tools=[{"type": "function", "function": {"name": "a b"}}]),
        400,
        "name: String should match",
    ),
    (CHAT, chat(tools=[TOOL], response_format={"type": "json_object"}), 400, "exclude each other"),
    (CHAT, chat(response_format={"type": "xml"}), 400, "response_format.type"),
    (CHAT, chat(response_format={"type": "json_schema"}), 400, "json_schema is missing"),
    (CHAT, schema({"type": "colour"}), 400, "cannot be made into a grammar"),
    (CHAT, schema({"$ref": "https://example.com/x"}), 400, "cannot be made into a grammar"),
    (CHAT, schema({"$ref": "#/nowhere"}), 400, "cannot be made into a grammar"),
    (CHAT, schema({"type": "array", "items": {}, "minItems": 10**9}), 400, "minItems"),
    (CHAT, schema({"type": "string", "pattern": "^(a{99}){99}$"}), 400, "pattern"),
    (CHAT, schema(deep(60)), 400, "levels deep"),
    (CHAT, schema({"enum": []}), 400, "cannot read the grammar"),
    (CHAT, schema({"type": 5}), 400, "cannot be made into a grammar"),
    (CHAT, schema({"type": "object", "properties": 5}), 400, "has not the form"),
    (CHAT, schema({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}), 400, "not there"),
    (CHAT, schema({"type": "string", "pattern": "("}), 400, "Pattern must start"),
    (CHAT, schema({"type": "string", "minLength": -1}), 400, "minLength"),
    (CHAT, schema({"type": "string", "minLength": "5"}), 400, "has not the form"),
    (CHAT, schema(None), 400, "json_schema.schema: .*object"),
    (CHAT, forced(**{"$defs": 5}), 400, "defs of the JSON schema is no object"),
    (CHAT, forced(definitions=[1]), 400, "definitions of the JSON schema is no object"),
    (CHAT, forced(type=7, properties=[1]), 400, "cannot be made into a grammar"),
    (CHAT, chat(n=0), 400, "n: .*1"),
    (CHAT, chat(n=10**30), 400, "n: .*maximum size"),
    (CHAT, chat(max_tokens=10**300), 400, "max_tokens: .*1000000"),
    (CHAT, chat(max_completion_tokens=-2), 400, "max_completion_tokens: .*-1"),
    (CHAT, chat(temperature=True), 400, "temperature: .*number"),
    (CHAT, chat(min_p=-0.1), 400, "min_p: .*0"),
    (CHAT, chat()[:-1] + b', "seed": 1e999}', 400, "seed: .*integer"),
    (CHAT, chat()[:-1] + b', "temperature": Infinity}', 400, "temperature: .*finite"),
    (CHAT, chat()[:-1] + b', "model": "gpt"}', 404, "'gpt' is not here"),  # the last one counts
    (CHAT, b'{"model": "household", "messages": "\\ud800"}', 400, "Invalid JSON"),
    (CHAT, b"\xef\xbb\xbf" + chat(), 400, "Invalid JSON"),
    (CHAT, chat().decode().encode("utf-16"), 400, "Invalid JSON"),
    (CHAT, chat(stream_options=5), 400, "stream_options: .*object"),
    (CHAT, chat(stop=[5]), 400, "stop: .*string"),
    (CHAT, chat(tools=[TOOL] * 129), 400, "tools: .*at most 128"),
    (CHAT, chat(tools=[{"type": "custom"}]), 400, r"tools\[0\].type: .*'function'"),
    (CHAT, chat(model="household#budget:2:entropy:1"), 404, "share between 0 and 1"),
    (CHAT, chat(model="household#tier:nix"), 400, "no tier 'nix'"),
    (CHAT, chat(model="household\x00"), 404, "is not here"),
    (CHAT, schema({"enum": ["x" * 99] * 999}), 400, "letters"),
    (CHAT, chat(messages=[user("x" * 9000)]), 400, "the context holds 1024"),
    (COMPLETIONS, completion(prompt=["a", "b"]), 400, "prompt: .*at most 1"),
    (COMPLETIONS, completion(prompt=5), 400, "prompt"),
    (COMPLETIONS, completion(echo=True), 400, "echo"),
    (COMPLETIONS, completion(suffix="x"), 400, "suffix"),
    (COMPLETIONS, completion(logprobs=9), 400, "logprobs: .*5"),
]


@pytest.mark.parametrize(("path", "body", "status", "said"), BAD)
def test_what_is_wrong_is_said(
    server: RunningServer, path: str, body: bytes, status: int, said: str
) -> None:
    answer = httpx.post(
        server.root + path, content=body, headers={"Content-Type": "application/json"}
    )
    error = answer.json()["error"]
    assert (answer.status_code, set(error)) == (status, {"message", "type", "param", "code"})
    assert_says(said, error["message"])


def assert_says(said: str, message: str) -> None:
    import re

    assert re.search(said, message), message
    assert "\n" not in message
    assert "Traceback" not in message


def test_a_form_that_a_page_could_send_unasked_is_refused(server: RunningServer) -> None:
    answer = httpx.post(server.root + CHAT, content=chat(), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert_says("Content-Type: application/json", answer.json()["error"]["message"])


def test_a_page_that_calls_us_by_another_name_is_refused(server: RunningServer) -> None:
    answer = httpx.get(f"{server.root}/v1/models", headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert_says("localhost alone", answer.json()["error"]["message"])


def test_a_body_has_a_limit(server: RunningServer) -> None:
    body = b" " * (MOST_BYTES + 1)
    headers = {"Content-Type": "application/json"}
    assert httpx.post(server.root + CHAT, content=body, headers=headers).status_code == 413


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat(messages=[user("word " * 700_000)])),
        (CHAT, chat(messages=HI * 80_000)),
        (CHAT, chat(tools=[{**TOOL, "function": {"name": "go", "description": "x" * 3_000_000}}])),
        (COMPLETIONS, completion(prompt="x " * 1_500_000)),
    ],
    ids=["a long message", "many messages", "long tools", "a long prompt"],
)
def test_what_cannot_fit_is_refused_before_it_is_read(
    server: RunningServer, path: str, body: bytes
) -> None:
    """Rendered and tokenised, each would keep the others waiting for many seconds."""
    answer = httpx.post(
        server.root + path, content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert_says("far more tokens than the 1024", answer.json()["error"]["message"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", CHAT, 405), ("POST", "/v1/embeddings", 404), ("GET", "/", 404)],
)
def test_what_is_not_there_is_said_in_the_same_form(
    server: RunningServer, method: str, path: str, status: int
) -> None:
    answer = httpx.request(method, server.root + path)
    assert answer.status_code == status
    assert_says(f"{method} {path}", answer.json()["error"]["message"])


def test_a_key_is_asked_for_and_compared() -> None:
    with (
        edge_router.load("household", threads=1) as model,
        running(model, key="correct-horse") as server,
    ):
        for given in ("", "Bearer wrong", "Bearer \u00e9"):
            headers = {b"Authorization": given.encode()}
            answer = httpx.get(f"{server.root}/v1/models", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
        assert server.client.models.list().data
        assert httpx.get(f"{server.root}/health").status_code == 200
