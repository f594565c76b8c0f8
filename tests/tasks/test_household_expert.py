"""The generator's worlds and the scripted expert that plays them."""

from __future__ import annotations

import random

import pytest

from edge_router.tasks.household.expert import Expert, understand
from edge_router.tasks.household.facts import item_kinds, receptacle_kinds, search_order
from edge_router.tasks.household.generator import (
    STEP_LIMIT,
    draw_world,
    expert_wins,
)
from edge_router.tasks.household.rules import KIND_NAMES, KINDS, REFUSED
from edge_router.tasks.household.simulator import Simulator
from edge_router.tasks.household.world import listing_key


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_every_drawn_world_is_won_by_the_expert_and_open_at_the_start(kind: str) -> None:
    rng = random.Random(f"worlds of {kind}")
    for _ in range(20):
        world = draw_world(rng, kind)
        assert world.goal.kind == kind
        assert expert_wins(world)
        assert not Simulator(world).step("look").won


def test_the_same_seed_draws_the_same_world() -> None:
    first, second = (draw_world(random.Random(7)) for _ in range(2))
    assert first == second
    assert first != draw_world(random.Random(8))


def test_entities_are_in_the_engines_listing_order() -> None:
    world = draw_world(random.Random(3))
    for names in (list(world.receptacles), list(world.items)):
        assert names == sorted(names, key=listing_key)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_the_expert_understands_every_sentence_form(kind: str) -> None:
    for form in KINDS[kind].goals:
        wish = understand(form.format(o="mug", r="desk"))
        assert (wish.object, wish.target, wish.kind.name) == ("mug", "desk", kind)


def test_a_sentence_that_is_no_goal_is_refused() -> None:
    with pytest.raises(ValueError, match="ALFWorld's goals"):
        understand("make me a sandwich.")


def test_the_search_order_names_every_receptacle_kind_once() -> None:
    for kind in item_kinds():
        assert sorted(search_order(kind)) == sorted(receptacle_kinds())


def test_apples_are_looked_for_where_they_were_seen_most() -> None:
    order = search_order("apple")
    assert order.index("countertop") < order.index("cabinet")
    assert order.index("fridge") < order.index("toaster")


def test_the_expert_finds_back_after_somebody_elses_mistakes() -> None:
    """Random commands in between cost steps but not the game."""
    won = 0
    for seed in range(40):
        rng = random.Random(seed)
        sim = Simulator(draw_world(rng))
        expert = Expert(sim.opening())
        for step in range(2 * STEP_LIMIT):
            action = expert.act()[1]
            if 0 < step < 20 and rng.random() < 0.3:
                action = f"go to {rng.choice(expert.room)}"
            reply = sim.step(action)
            if reply.won:
                won += 1
                break
            expert.observe(reply.observation, action)
    assert won >= 38


def test_a_refused_way_leads_to_examining_what_stands_here() -> None:
    sim = Simulator(draw_world(random.Random(1)))
    expert = Expert(sim.opening())
    _, action = expert.act()
    expert.observe(REFUSED, action)
    assert expert.act()[1] == action.replace("go to", "examine")
