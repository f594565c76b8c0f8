"""General models get rules, a worked game of the task's type, and then the game."""

from __future__ import annotations

import pytest

from edge_router.agent.template import CHATML, ChatTemplate
from edge_router.errors import UserError
from edge_router.tasks.alfworld.game_files import split_games
from edge_router.tasks.alfworld.react_prompt import (
    ReactStyle,
    examples,
    kind_of_goal,
    opening_messages,
)
from edge_router.tasks.household.rules import KIND_NAMES, REFUSED
from edge_router.tasks.parse import parse_step
from edge_router.tasks.protocol import Opening
from edge_router.tasks.registry import find_task, style_for
from tests.checkpoints import INST

ROOM = "You are in the middle of a room. Looking quickly around you, you see a desk 1, and a bed 1."

# DeepSeek-R1's way, in short: the lead-in begins the reasoning.
R1 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<U>{{ m['content'] }}{% else %}<A>"
    "{{ m['content'].split('</think>')[-1] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<A><think>\n{% endif %}"
)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("put a pen in desk.", "pick_and_place_simple"),
        ("put some soapbottle on garbagecan.", "pick_and_place_simple"),
        ("put a clean apple in fridge.", "pick_clean_then_place_in_recep"),
        ("clean some cloth and put it in cart.", "pick_clean_then_place_in_recep"),
        ("put a hot mug in coffeemachine.", "pick_heat_then_place_in_recep"),
        ("heat some egg and put it in diningtable.", "pick_heat_then_place_in_recep"),
        ("put a cool tomato in fridge.", "pick_cool_then_place_in_recep"),
        ("cool some cup and put it in cabinet.", "pick_cool_then_place_in_recep"),
        ("look at bowl under the desklamp.", "look_at_obj_in_light"),
        ("examine the cd with the desklamp.", "look_at_obj_in_light"),
        ("put two cd in drawer.", "pick_two_obj_and_place"),
        ("find two book and put them in cabinet.", "pick_two_obj_and_place"),
    ],
)
def test_the_task_sentence_tells_the_type(task: str, kind: str) -> None:
    assert kind_of_goal(task) == kind


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_every_type_has_a_worked_game_of_its_own(kind: str) -> None:
    shown, kept = examples(kind)
    shipped = {game.path.parent.parent.name for game in split_games("generated")}
    assert not {shown.opening.goal, kept.opening.goal} & shipped
    for example in (shown, kept):
        assert kind_of_goal(example.opening.goal) == kind
        for step in example.steps:
            assert step.observation != REFUSED
            for thought in (step.thought, step.short):
                said = parse_step(f"{thought}\n> {step.action}")
                assert (said.thought, said.action) == (thought, step.action)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_turns_alternate_and_end_with_the_real_game(kind: str) -> None:
    task = examples(kind)[1].opening.goal
    messages = opening_messages(Opening(ROOM, task))
    roles = [m["role"] for m in messages]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    assert "Nothing happens." in messages[0]["content"]  # the rules
    assert examples(kind)[0].opening.goal in messages[0]["content"]
    assert messages[-1]["content"].endswith(f"{ROOM}\nYour task is to: {task}")
    assert all("\n> " in m["content"] for m in messages[1::2])


@pytest.mark.parametrize("template", [CHATML, INST])
def test_the_opening_goes_through_a_chat_template(template: str) -> None:
    rendered = ChatTemplate(template, bos="<s>", eos="</s>").render(
        opening_messages(Opening(ROOM, "put a pen in desk."))
    )
    assert rendered.count("Your task is to:") == 2
    assert rendered.index("Here is a new game.") < rendered.index(ROOM)


def test_reasoning_that_a_template_begins_is_ended_at_once() -> None:
    template = ChatTemplate(R1)
    lead = template.render([{"role": "user", "content": "hi"}])
    assert lead == "<U>hi<A><think>\n\n</think>\n\n"
    assert "<think>" not in template.render([{"role": "user", "content": "hi"}], lead=False)


def test_the_ladders_prompt_wins_over_the_files() -> None:
    metadata = {"edge_router.prompt_style": "household"}
    assert style_for(find_task(), metadata).name == "household"
    assert style_for(find_task(), metadata, "react").name == "react"
    assert style_for(find_task(), {}).name == ReactStyle.name
    with pytest.raises(UserError, match="there is no prompt style 'poem'"):
        style_for(find_task(), {}, "poem")
