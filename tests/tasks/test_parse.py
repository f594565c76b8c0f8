"""Reading a model's step: forgiving in form, strict in meaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.tasks.alfworld.household_prompt import step_text
from edge_router.tasks.parse import Parsed, parse_step


@pytest.mark.parametrize(
    ("text", "thought", "action"),
    [
        (" see apple 2 on desk 1\n> go to desk 1", "see apple 2 on desk 1", "go to desk 1"),
        ("> go to desk 1", "", "go to desk 1"),
        ("Thought: it is near.\nAction: go to desk 1.", "it is near.", "go to desk 1"),
        ("think: look\nact: `open fridge 1`", "look", "open fridge 1"),
        ('I will.\nACTION:  "take  mug 1 from desk 1"', "I will.", "take mug 1 from desk 1"),
        ("<think>\nlong\n> go to hell 1\n</think>\n\nSo.\n> look", "So.", "look"),
        ("> first\n> second", "> first", "second"),
        ("I go to desk 1", "", "I go to desk 1"),
        ("First this.\ngo to desk 1\n\n", "First this.", "go to desk 1"),
        ("**> go to desk 1**", "", "go to desk 1"),
        ("", "", ""),
        (" \n ", "", ""),
    ],
)
def test_steps_are_split_into_thought_and_action(text: str, thought: str, action: str) -> None:
    assert parse_step(text) == Parsed(thought, action)


def test_an_action_that_is_not_understood_is_not_repaired() -> None:
    assert parse_step("> put the apple into fridge 1").action == "put the apple into fridge 1"


WORDS = st.text(alphabet="abcdefghij 123", min_size=1).map(lambda s: " ".join(s.split()))
WORD_TEXT = WORDS.filter(bool)


@given(st.text())
def test_any_text_is_read_without_error(text: str) -> None:
    parsed = parse_step(text)
    assert "\n" not in parsed.action


@given(WORD_TEXT, WORD_TEXT)
def test_a_well_formed_step_comes_back_as_it_was(thought: str, action: str) -> None:
    assert parse_step(step_text(thought, action)) == Parsed(thought, action)
