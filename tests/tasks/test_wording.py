"""A draft's wording is compared with what was said, thing by thing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.agent.history import Said, things
from edge_router.router.features import Wording
from edge_router.tasks.parse import Parsed

PLAN = "plan: desk 1 shelf 2 bed 1\n> go to desk 1"
SAW = "You arrive at desk 1. On the desk 1, you see a pen 1, and a mug 3."


def said(*texts: str) -> Said:
    shown = Said()
    for text in texts:
        shown.add(text)
    return shown


def after_the_plan(thought: str, action: str) -> Wording:
    return said("find a cd.", PLAN, SAW).compare(Parsed(thought, action), "go to desk 1")


def test_a_word_and_the_number_behind_it_are_one_thing() -> None:
    assert things("Go to Desk 12, see a cd 3.") == ["go", "to", "desk 12", "see", "a", "cd 3"]
    assert things("take 2\n3 mugs of set9") == ["take 2", "3", "mugs", "of", "set9"]
    assert things("") == []


def test_a_draft_that_keeps_to_plan_and_thought_stands_out_by_nothing() -> None:
    assert after_the_plan("no cd desk 1", "go to shelf 2") == Wording(
        off_thought=3, off_reply=2, age=18, on_last=True, follows=True, ahead=1
    )


def test_a_place_left_out_of_a_plan_does_not_follow() -> None:
    left_out = after_the_plan("no cd desk 1", "go to bed 1")
    assert (left_out.follows, left_out.ahead) == (False, 2)


def test_an_action_on_another_thing_than_its_thought_names_is_off() -> None:
    assert after_the_plan("see pen 1 on desk 1", "take pen 1 from desk 1").off_thought == 2
    assert after_the_plan("see pen 1 on desk 1", "take mug 3 from desk 1").off_thought == 3


def test_a_thought_about_what_the_reply_does_not_name_is_off() -> None:
    assert after_the_plan("pen 1 on desk 1", "go to bed 1").off_reply == 0
    assert after_the_plan("pen 2 on desk 2", "go to bed 1").off_reply == 2


def test_the_newest_mention_of_the_target_counts() -> None:
    assert after_the_plan("", "take mug 3").age == 0
    assert after_the_plan("", "take pen 1").age == 3
    assert after_the_plan("", "take lamp 4").age is None


def test_nothing_said_and_nothing_written_compare_to_nothing() -> None:
    assert Said().compare(Parsed("", ""), "") == Wording()


@given(st.lists(st.text(max_size=30), max_size=6), st.text(max_size=30), st.text(max_size=30))
def test_any_text_can_be_compared(texts: list[str], thought: str, action: str) -> None:
    wording = said(*texts).compare(Parsed(thought, action), texts[-1] if texts else "")
    named = [thing for text in texts for thing in things(text)]
    target = things(action)[-1:]
    assert (wording.age is None) == (not target or target[0] not in named)
    if wording.age is not None:
        assert named[-1 - wording.age] == target[0]
    assert wording.off_thought <= len(things(action))


@pytest.mark.parametrize("action", ["go to bed 1", "take pen 1 from desk 1"])
def test_said_in_one_piece_or_in_several_is_the_same_but_for_the_reply(action: str) -> None:
    whole = said(f"find a cd. {PLAN} {SAW}").compare(Parsed("", action), "go to desk 1")
    assert whole == after_the_plan("", action)
