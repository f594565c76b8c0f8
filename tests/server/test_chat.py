"""OpenAI's own client talks to a real server on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import edge_router
from edge_router import RoutedModel
from tests.serving import OPENING, RunningServer, running, user

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "go",
            "parameters": {
                "type": "object",
                "properties": {"where": {"$ref": "#/$defs/place"}},
                "required": ["where"],
                "$defs": {"place": {"enum": ["desk", "bed"]}},
            },
        },
    }
]
SCHEMA: Any = {
    "type": "object",
    "properties": {"count": {"type": "integer"}, "kind": {"enum": ["mug", "bowl"]}},
    "required": ["count", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model() -> Iterator[RoutedModel]:
    with edge_router.load("household", threads=1, slots=3) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(model: RoutedModel) -> Iterator[RunningServer]:
    with running(model) as started:
        yield started


def test_an_answer_is_the_librarys_own(server: RunningServer, model: RoutedModel) -> None:
    answer = server.client.chat.completions.create(model="household", messages=[user(OPENING)])
    alone = model.chat([user(OPENING)], router="low")
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == (alone.text, "stop")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == alone.prompt_tokens
    assert answer.usage.completion_tokens == alone.completion_tokens > 5


def test_an_answer_tells_who_wrote_it_and_why(server: RunningServer) -> None:
    raw = server.client.chat.completions.with_raw_response.create(
        model="household#high", messages=[user(OPENING)]
    )
    told = (raw.parse().model_extra or {})["edge_router"]
    assert (told["tier"], told["escalated"], told["reason"]) == (
        "q8_0",
        True,
        "always the high tier",
    )
    assert told["latency"]["decode_tokens"] > 0
    assert raw.headers["x-edge-router-tier"] == "q8_0"
    assert 0 < float(raw.headers["x-edge-router-escalation-rate"]) <= 1


def test_a_stream_is_the_answer_in_pieces(server: RunningServer) -> None:
    client = server.client
    whole = client.chat.completions.create(model="household#high", messages=[user(OPENING)])
    chunks = list(
        client.chat.completions.create(
            model="household#high",
            messages=[user(OPENING)],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert len([text for text in texts if text]) > 5
    assert "".join(texts).strip() == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


async def test_several_coroutines_get_their_own_answers(server: RunningServer) -> None:
    client = server.async_client
    goals = [f"task: put a {thing} in cabinet.\nroom: cabinet 1" for thing in ("mug", "pan", "cup")]

    async def ask(goal: str) -> str | None:
        answer = await client.chat.completions.create(model="household", messages=[user(goal)])
        return answer.choices[0].message.content

    together = await asyncio.gather(*map(ask, goals))
    assert together == [await ask(goal) for goal in goals]


def test_a_tier_may_be_asked_for_alone(server: RunningServer) -> None:
    answer = server.client.chat.completions.create(model="household:q8_0", messages=[user(OPENING)])
    told = (answer.model_extra or {})["edge_router"]
    assert (told["tier"], told["reason"]) == ("q8_0", "always q8_0")
    assert told["latency"]["handoff_tokens"] == 0, "it reads the prompt itself"


def test_a_dial_stands_behind_the_name(server: RunningServer) -> None:
    def tier(name: str) -> str:
        answer = server.client.chat.completions.create(
            model=name, messages=[user(OPENING)], max_tokens=1
        )
        return str((answer.model_extra or {})["edge_router"]["tier"])

    assert tier("household@0#entropy:0.5") == "iq1_s"
    assert tier("household@1#entropy:0.5") == "q8_0"


def test_models_are_listed_as_they_may_be_asked_for(server: RunningServer) -> None:
    names = [model.id for model in server.client.models.list()]
    assert names[:3] == ["household", "household:iq1_s", "household:q8_0"]
    assert "household#high" in names
    assert server.client.models.retrieve("household:q8_0").id == "household:q8_0"


def test_an_answer_keeps_to_a_schema(server: RunningServer) -> None:
    answer = server.client.chat.completions.create(
        model="household",
        messages=[user(OPENING)],
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    )
    said = json.loads(answer.choices[0].message.content or "")
    assert set(said) == {"count", "kind"}
    assert said["kind"] in ("mug", "bowl")
    assert isinstance(said["count"], int)


def test_an_answer_is_a_json_object_where_that_is_asked_for(server: RunningServer) -> None:
    answer = server.client.chat.completions.create(
        model="household#high",
        messages=[user(OPENING)],
        response_format={"type": "json_object"},
        max_tokens=200,
    )
    choice = answer.choices[0]
    assert (choice.message.content or "").startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content or ""), dict)


@pytest.mark.parametrize("stream", [False, True])
def test_a_required_call_comes_and_its_result_is_taken(server: RunningServer, stream: bool) -> None:
    client, messages = server.client, [user(OPENING)]
    if stream:
        chunks = client.chat.completions.create(
            model="household", messages=messages, tools=TOOLS, tool_choice="required", stream=True
        )
        deltas = [chunk.choices[0].delta for chunk in chunks]
        assert not any(delta.content for delta in deltas), "the call is no text"
        found: Any = [call for delta in deltas for call in delta.tool_calls or ()]
    else:
        answer = client.chat.completions.create(
            model="household", messages=messages, tools=TOOLS, tool_choice="required"
        )
        assert answer.choices[0].finish_reason == "tool_calls"
        found = answer.choices[0].message.tool_calls
    (call,) = found
    called, identity = call.function, call.id
    assert called.name == "go"
    assert json.loads(called.arguments or "")["where"] in ("desk", "bed")
    function = {"name": called.name, "arguments": called.arguments}
    said: Any = {
        "role": "assistant",
        "tool_calls": [{"id": identity, "type": "function", "function": function}],
    }
    told: Any = {"role": "tool", "tool_call_id": identity, "content": "You are there."}
    again = client.chat.completions.create(
        model="household",
        messages=[*messages, said, told],
        tools=TOOLS,
        max_tokens=8,
    )
    assert again.usage is not None
    assert again.usage.prompt_tokens > 20


def test_probabilities_are_told_of_each_token(server: RunningServer) -> None:
    answer = server.client.chat.completions.create(
        model="household",
        messages=[user(OPENING)],
        logprobs=True,
        top_logprobs=3,
        max_tokens=6,
    )
    choice = answer.choices[0]
    assert choice.logprobs is not None
    told = choice.logprobs.content or []
    assert "".join(token.token for token in told).strip() == choice.message.content
    assert choice.finish_reason == "length"
    for token in told:
        assert len(token.top_logprobs) == 3
        assert token.logprob == pytest.approx(token.top_logprobs[0].logprob, abs=1e-3), "greedy"


def test_a_completion_goes_on_after_a_text(server: RunningServer) -> None:
    answer = server.client.completions.create(model="household", prompt="task: put a", logprobs=2)
    choice = answer.choices[0]
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 16
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == choice.text
    streamed = server.client.completions.create(
        model="household", prompt="task: put a", stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in streamed) == choice.text


CALLED: Any = {
    "role": "assistant",
    "content": None,
    "refusal": None,
    "audio": None,
    "function_call": None,
    "tool_calls": [
        {"id": "1", "type": "function", "index": 0, "function": {"name": "go", "arguments": ""}}
    ],
}
PARTS: Any = [{"type": "text", "text": "task: put a "}, {"type": "text", "text": "mug in bed 1."}]
SENT: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": PARTS}]},
    {"messages": [{"role": "developer", "content": "be brief."}, user("hi")]},
    {"messages": [{"role": "system", "content": PARTS}, {**user("hi"), "name": "ann"}]},
    {"messages": [user("hi"), CALLED, {"role": "tool", "tool_call_id": "1", "content": PARTS}]},
    {"messages": [user("hi"), {"role": "assistant", "content": None}, user("and?")]},
    {"messages": [user("hi"), {"role": "assistant", "content": ""}, user("and?")]},
    {"stream_options": None, "stream": False, "stop": None, "seed": None, "temperature": 1},
    {"stop": [], "logit_bias": {}, "frequency_penalty": 0, "presence_penalty": 0.0, "n": 1},
    {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
    {"tools": TOOLS, "parallel_tool_calls": False, "response_format": {"type": "text"}},
    {"tools": [{"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}]},
    {"reasoning_effort": "low", "verbosity": "low", "store": False, "metadata": {"a": "b"}},
    {"user": "ann", "service_tier": "auto", "modalities": ["text"], "prediction": None},
    {"top_k": 40, "repetition_penalty": 1.0, "chat_template_kwargs": {"enable_thinking": False}},
    {"logprobs": False, "top_logprobs": None, "max_completion_tokens": 2},
]


@pytest.mark.parametrize("sent", SENT, ids=lambda sent: "-".join(sent))
def test_what_clients_send_is_let_through(server: RunningServer, sent: dict[str, Any]) -> None:
    body = {"model": "household", "messages": [user("hi")], "max_tokens": 2, **sent}
    answer = httpx.post(f"{server.root}/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > 1


def test_parts_of_a_message_are_read_as_one_text(server: RunningServer) -> None:
    def tokens(content: Any) -> int:
        answer = server.client.chat.completions.create(
            model="household", messages=[{"role": "user", "content": content}], max_tokens=1
        )
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    assert tokens(PARTS) == tokens("task: put a mug in bed 1.")


def test_a_stop_string_ends_an_answer(server: RunningServer) -> None:
    answer = server.client.chat.completions.create(
        model="household", messages=[user(OPENING)], stop=["\n>"]
    )
    assert ">" not in (answer.choices[0].message.content or ">")
    assert answer.choices[0].finish_reason == "stop"


def test_a_seed_draws_the_same_again_and_none_draws_anew(server: RunningServer) -> None:
    def draw(seed: int | None = None) -> str:
        answer = server.client.completions.create(
            model="household", prompt="task: put", temperature=2, max_tokens=12, seed=seed
        )
        return str(answer.choices[0].text)

    assert draw(seed=5) == draw(seed=5)
    assert len({draw() for _ in range(4)}) > 1


def test_only_what_is_new_of_a_conversation_is_read(server: RunningServer) -> None:
    """Three conversations take turns; each finds what it had read and written."""
    client = server.client
    talks = [[user(f"task: look {number}.\n{OPENING}" + " shelf 1" * 40)] for number in range(3)]
    for turn in range(4):
        for talk in talks:
            answer = client.chat.completions.create(model="household", messages=talk, max_tokens=24)
            usage, said = answer.usage, answer.choices[0].message.content
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            new = usage.prompt_tokens - (usage.prompt_tokens_details.cached_tokens or 0)
            if turn:
                assert new < 16, "the lead-in, the end of the turn and one message"
            talk += [{"role": "assistant", "content": said}, user("Nothing happens.")]


@pytest.mark.parametrize("router", ["low", "high", "verify"])
def test_turn_ten_reads_only_what_is_new(server: RunningServer, router: str) -> None:
    """What the low tier wrote it need not read; what a higher tier wrote it reads once."""
    talk, before = [user(f"task: {router}.\n{OPENING}" + " shelf 1" * 100)], None
    for _ in range(10):
        answer = server.client.chat.completions.create(
            model=f"household#{router}", messages=talk, max_tokens=24
        )
        usage = answer.usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        new = usage.prompt_tokens - (usage.prompt_tokens_details.cached_tokens or 0)
        if before is not None:
            grown = usage.prompt_tokens - before.prompt_tokens
            known = before.completion_tokens - 1 if router == "low" else 0  # its last is not fed
            assert new <= grown - known + 1  # a prompt's last token is computed for its logits
        talk.append({"role": "assistant", "content": answer.choices[0].message.content})
        talk.append(user("Nothing happens."))
        before = usage
    assert before is not None
    print(f"{router}: turn 10 read {new} of {before.prompt_tokens} tokens")
    assert new < before.prompt_tokens / 8


def test_metrics_count_what_was_asked(server: RunningServer) -> None:
    import urllib.request

    server.client.chat.completions.create(model="household", messages=[user("x")], max_tokens=1)
    text = urllib.request.urlopen(f"{server.root}/metrics").read().decode()
    assert 'edge_router_answers_total{tier="iq1_s"}' in text
    assert 'edge_router_requests_total{route="/v1/chat/completions",status="200"}' in text
    health = json.load(urllib.request.urlopen(f"{server.root}/health"))
    assert health == {"status": "ok", "waiting": 0}
