"""What clients of other servers send (llama.cpp, llama-cpp-python, vLLM) is done, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest

import edge_router
from edge_router import RoutedModel
from edge_router.engine.grammar import Grammar
from edge_router.ladders.resolve import resolve, router_for
from edge_router.server.answering import Served, plan_chat
from edge_router.server.forms import ChatForm
from edge_router.server.unkept import _WHY
from tests.serving import OPENING, RunningServer, running, user

SCHEMA: Any = {
    "type": "object",
    "properties": {"kind": {"enum": ["mug", "bowl"]}},
    "required": ["kind"],
}
GO: Any = {"type": "function", "function": {"name": "go"}}
UNKEPT: dict[str, Any] = {
    **dict.fromkeys(("frequency_penalty", "presence_penalty", "dry_multiplier"), 0.5),
    **dict.fromkeys(("repeat_penalty", "repetition_penalty"), 1.1),
    **dict.fromkeys(("mirostat", "mirostat_mode", "n_predict", "n_probs", "min_tokens"), 2),
    **dict.fromkeys(("tfs_z", "typical_p", "top_a", "top_n_sigma", "xtc_probability"), 0.9),
    **dict.fromkeys(("grammar", "guided_grammar"), 'root ::= "yes"'),
    **dict.fromkeys(("guided_json", "structured_outputs", "web_search_options"), SCHEMA),
    "dynatemp_range": 0.2,
    "guided_regex": "a+",
    "guided_choice": ["yes", "no"],
    "functions": [GO["function"]],
    "function_call": {"name": "go"},
    "chat_template_kwargs": {"enable_thinking": True},
    "logit_bias": [[15043, 1.0]],
    "bad_words": ["mug"],
    "stop_token_ids": [5],
    "ignore_eos": True,
    "image_data": [{"data": "", "id": 12}],
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
}
OFF: list[dict[str, Any]] = [
    {"repeat_penalty": 1.0, "repetition_penalty": 1, "presence_penalty": 0, "mirostat": 0},
    {"typical_p": 1.0, "tfs_z": 1, "xtc_probability": 0.0, "top_n_sigma": -1.0, "n_predict": -1},
    {"grammar": "", "guided_json": None, "logit_bias": {"5": 0}, "ignore_eos": False},
    {"chat_template_kwargs": {"enable_thinking": False}, "function_call": "auto", "functions": []},
    {"modalities": ["text"], "n_probs": 0, "min_tokens": 0, "top_k": -1},
]


@pytest.fixture(scope="module")
def model() -> Iterator[RoutedModel]:
    with edge_router.load("household", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(model: RoutedModel) -> Iterator[RunningServer]:
    with running(model) as started:
        yield started


def post(server: RunningServer, **fields: Any) -> httpx.Response:
    route = "completions" if "prompt" in fields else "chat/completions"
    body = {"model": "household", **fields}
    if "prompt" not in fields:
        body.setdefault("messages", [user(OPENING)])
    return httpx.post(f"{server.root}/v1/{route}", json=body)


def text(answer: httpx.Response) -> str:
    choice = answer.json()["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def test_every_field_that_is_refused_has_an_example_here() -> None:
    assert set(UNKEPT) == set(_WHY)


@pytest.mark.parametrize("name", UNKEPT)
def test_a_field_that_would_change_the_answer_is_not_ignored(
    server: RunningServer, name: str
) -> None:
    for asked in ({}, {"prompt": "task: put"}):
        answer = post(server, **asked, **{name: UNKEPT[name]})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, name)
        assert error["message"].startswith(f"{name}: ")


@pytest.mark.parametrize("sent", OFF, ids=lambda sent: "-".join(sent))
def test_a_field_that_is_switched_off_is_let_through(
    server: RunningServer, sent: dict[str, Any]
) -> None:
    assert post(server, max_tokens=1, **sent).status_code == 200


@pytest.mark.parametrize(
    "form",
    [
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"response_format": {"type": "json_schema", "schema": SCHEMA}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
        {"json_schema": SCHEMA},
    ],
)
@pytest.mark.parametrize("asked", [{}, {"prompt": OPENING}], ids=["chat", "completion"])
def test_a_schema_is_kept_to_wherever_it_stands(
    server: RunningServer, form: dict[str, Any], asked: dict[str, Any]
) -> None:
    answer = post(server, max_tokens=40, **asked, **form)
    assert json.loads(text(answer))["kind"] in ("mug", "bowl")


def test_the_likeliest_token_alone_is_what_greedy_takes(server: RunningServer) -> None:
    greedy = text(post(server))
    assert text(post(server, temperature=2, top_k=1)) == greedy
    assert text(post(server, temperature=2, top_k=40, seed=1)) != greedy


def test_minus_one_is_as_many_tokens_as_fit_and_another_seed_each_time(
    server: RunningServer,
) -> None:
    assert post(server, max_tokens=-1).json()["choices"][0]["finish_reason"] == "stop"
    assert post(server, prompt=OPENING, max_tokens=-1).json()["usage"]["completion_tokens"] > 16
    drawn = {text(post(server, temperature=2, seed=-1, max_tokens=12)) for _ in range(4)}
    assert len(drawn) > 1


def test_arguments_of_an_earlier_call_may_be_an_object(server: RunningServer) -> None:
    def tokens(arguments: Any) -> int:
        call = {"id": "1", "function": {"name": "go", "arguments": arguments}}
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        told = {"role": "tool", "tool_call_id": "1", "content": "You are there."}
        answer = post(server, messages=[user("hi"), said, told], max_tokens=1)
        return int(answer.json()["usage"]["prompt_tokens"])

    assert tokens({"where": "desk"}) == tokens('{"where": "desk"}') > tokens("{}")


@pytest.mark.parametrize(("parallel", "calls"), [(None, 2), (True, 2), (False, 1)])
def test_one_call_is_given_where_one_is_wanted(
    model: RoutedModel, parallel: bool | None, calls: int
) -> None:
    call = r"<tool_call>{\"name\": \"go\", \"arguments\": {}}</tool_call>"
    served = Served("household", model, router_for(resolve("household", []), "low"), 0.5)
    asked: Any = {"tools": [GO], "parallel_tool_calls": parallel, "max_tokens": 200}
    form = ChatForm(model="household", messages=[user("hi")], **asked)
    plan = plan_chat(form, served)
    twice: Any = {**plan.options, "constraint": Grammar(f'root ::= "{call}{call}"')}
    assert len(replace(plan, options=twice).write(lambda _: None).tool_calls) == calls


def test_a_stream_that_cannot_begin_has_the_status_of_its_error(server: RunningServer) -> None:
    """So that `except BadRequestError` finds it, as agents do that shorten what is too long."""
    with pytest.raises(openai.BadRequestError) as caught:
        server.client.chat.completions.create(
            model="household", messages=[user("mug 1 " * 2000)], stream=True
        )
    assert caught.value.code == "context_length_exceeded"


def test_a_route_that_is_not_there_says_which_are(server: RunningServer) -> None:
    said = httpx.post(f"{server.root}/chat/completions", json={}).json()["error"]["message"]
    assert "POST /v1/chat/completions" in said
