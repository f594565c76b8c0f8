"""Calls of functions: read in the ways that models write them, and told to those that know none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_router.agent.template import CHATML, ChatTemplate
from edge_router.agent.tool_calls import in_words, knows_tools, may_begin, parse, text_of, way_of

NAMES = ("go", "look")
GO = '{"name": "go", "arguments": {"to": "desk"}}'
LLAMA = '{"name": "go", "parameters": {"to": "desk"}}'


@pytest.mark.parametrize(
    ("text", "said", "called"),
    [
        (f"<tool_call>\n{GO}\n</tool_call>", "", ["go"]),
        (f"I go. <tool_call>{GO}</tool_call>", "I go.", ["go"]),
        (f"<tool_call>{GO}</tool_call>\n<tool_call>{GO}</tool_call>", "", ["go", "go"]),
        (f"<tool_call>{GO}", "", ["go"]),  # the end tag was the end of generation
        (LLAMA, "", ["go"]),
        (f" {LLAMA}; {LLAMA}", "", ["go", "go"]),
        ('{"name": "look"}', "", ["look"]),
        ("plain words", "plain words", []),
        ('{"name": "fly", "arguments": {}}', '{"name": "fly", "arguments": {}}', []),
        ('{"name": "go", "arguments": [1]}', '{"name": "go", "arguments": [1]}', []),
        ("<tool_call>{broken</tool_call>", "<tool_call>{broken</tool_call>", []),
        ("[" * 9000, "[" * 9000, []),
        ("", "", []),
    ],
)
def test_calls_are_read_and_everything_else_stays_text(
    text: str, said: str, called: list[str]
) -> None:
    left, calls = parse(text, NAMES)
    assert (left, [call.name for call in calls]) == (said, called)
    for call in calls:
        assert isinstance(json.loads(call.arguments), dict)
        assert call.id.startswith("call_")


def test_every_call_has_an_id_of_its_own() -> None:
    _, calls = parse(f"<tool_call>{GO}</tool_call><tool_call>{GO}</tool_call>", NAMES)
    assert calls[0].id != calls[1].id


@pytest.mark.parametrize(
    ("text", "sure"),
    [
        ("I go", 4),
        ("I go <to", 5),
        ("I go <tool_call>{", 5),
        ("a < b", 5),
        (' {"name"', 0),
        ("", 0),
        ("  ", 0),
    ],
)
def test_a_stream_holds_back_what_may_become_a_call(text: str, sure: int) -> None:
    assert may_begin(text) == sure


def test_the_way_of_writing_is_read_off_the_template() -> None:
    assert way_of("... <tool_call> ...") == "hermes"
    assert way_of('... {"name": ..., "parameters": ...}') == "llama"
    assert way_of(None) == "hermes"


def test_a_template_that_knows_tools_is_given_them() -> None:
    source = "{% for t in tools %}{{ t.function.name }} {% endfor %}{{ messages[0].content }}"
    assert knows_tools(source)
    told = ChatTemplate(source).telling([{"function": {"name": "go"}}])
    assert told.render([{"role": "user", "content": "hi"}]) == "go hi"
    assert ChatTemplate("{{ tools is none }}").render([{"role": "user", "content": ""}]) == "True"


def test_one_that_knows_none_is_told_in_words() -> None:
    assert not knows_tools(CHATML)
    tools = [{"type": "function", "function": {"name": "go"}}]
    call = {"id": "1", "type": "function", "function": {"name": "go", "arguments": {"to": "desk"}}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "You are there."},
    ]
    said = in_words(messages, tools)
    assert [message["role"] for message in said] == ["system", "user", "assistant", "user"]
    assert said[0]["content"].startswith("Be brief.")
    assert '"name": "go"' in said[0]["content"]
    assert parse(said[2]["content"], NAMES)[1][0].name == "go", "as it would write it itself"
    assert "You are there." in said[3]["content"]
    assert text_of(messages[2]) == said[2]["content"]
    assert in_words(messages[1:2], tools)[0]["role"] == "system"
