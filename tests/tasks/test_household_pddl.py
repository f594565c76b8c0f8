"""Households survive being written as ALFWorld games and read back."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_router.errors import UserError
from edge_router.tasks.alfworld.game_files import SHIPPED, find_games
from edge_router.tasks.household.pddl import load_game, read_world, write_game
from edge_router.tasks.household.rules import KIND_NAMES
from edge_router.tasks.household.world import (
    Goal,
    Item,
    Receptacle,
    World,
    kind_of,
    listing_key,
    number_of,
)

PLACES = ("bathtubbasin", "cabinet", "countertop", "drawer", "fridge", "microwave", "sinkbasin")
THINGS = ("apple", "cup", "desklamp", "knife", "mug", "pen", "pencil", "sink", "soapbar")
STATES = ("clean", "hot", "cool", "toggled", "sliced")
ABILITIES = ("pickupable", "cleanable", "heatable", "coolable", "toggleable", "sliceable")
FLAGS = (*ABILITIES, *STATES, "container")


@st.composite
def names(draw: st.DrawFn, kinds: tuple[str, ...]) -> list[str]:
    counts = draw(st.dictionaries(st.sampled_from(kinds), st.integers(1, 3), min_size=1))
    found = [f"{kind} {n}" for kind, count in counts.items() for n in range(1, count + 1)]
    return sorted(found, key=listing_key)


@st.composite
def items(draw: st.DrawFn, name: str, places: list[str], others: list[str]) -> Item:
    flags = dict.fromkeys(draw(st.sets(st.sampled_from(FLAGS))), True)
    within = draw(st.sets(st.sampled_from(places), max_size=2))
    inside = draw(st.sets(st.sampled_from(others), max_size=2))
    return Item(
        name,
        places=tuple(sorted(within, key=listing_key)),
        location=draw(st.integers(-1, 20)),
        contents=tuple(sorted(inside, key=listing_key)),
        **{"pickupable": False, **flags},
    )


@st.composite
def receptacles(draw: st.DrawFn, name: str) -> Receptacle:
    other = draw(st.sampled_from(("", *PLACES)))
    return Receptacle(
        name,
        location=draw(st.integers(0, 20)),
        openable=draw(st.booleans()),
        opened=draw(st.booleans()),
        counts_as="" if other == kind_of(name) else other,
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Households as the engine knows them: numbers of a kind without a gap, names in order."""
    places, things = draw(names(PLACES)), draw(names(THINGS))
    house = {p: draw(receptacles(p)) for p in places}
    pairs = [(r.role, kind_of(t)) for r in house.values() for t in things]
    sentence = draw(st.text(string.ascii_lowercase + " ,'-", min_size=1, max_size=30))
    goal = Goal(
        kind=draw(st.sampled_from(KIND_NAMES)),
        object=draw(st.sampled_from(THINGS)),
        target=draw(st.sampled_from(PLACES)),
        sentence=sentence + ".",
    )
    return World(
        id="task-folder/trial_1",
        scene=draw(st.integers(1, 430)),
        receptacles=house,
        items={t: draw(items(t, places, things)) for t in things},
        goal=goal,
        start=draw(st.integers(0, 20)),
        can_contain=frozenset(draw(st.sets(st.sampled_from(pairs)))),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds())
def test_reading_what_was_written_gives_the_same_world(
    tmp_path_factory: pytest.TempPathFactory, world: World
) -> None:
    folder = tmp_path_factory.mktemp("game") / world.id
    write_game(world, folder)
    again = read_world(folder)
    assert again == world
    assert list(again.items) == list(world.items)
    assert list(again.receptacles) == list(world.receptacles)


def test_every_shipped_game_survives_being_written_and_read_back(tmp_path: Path) -> None:
    numbers = set()
    for game in find_games(SHIPPED):
        world = read_world(game.path)
        numbers |= {number_of(name) for name in world.receptacles}
        write_game(world, tmp_path / world.id)
        assert read_world(tmp_path / world.id) == world
    assert max(numbers) > 10  # two digits: ids have to sort by number, not by text


def _official_games() -> Iterator[Path]:
    root = os.environ.get("ALFWORLD_DATA")
    folder = Path(root or "/nonexistent") / "json_2.1.1" / "train"
    if folder.is_dir():
        yield from sorted(folder.glob("*/*/game.tw-pddl"))


@pytest.mark.skipif(not any(_official_games()), reason="ALFWORLD_DATA holds no train games")
def test_every_official_game_survives_being_written_and_read_back(tmp_path: Path) -> None:
    for file in _official_games():
        world = read_world(file)
        kind, thing, _, target, _ = world.id.split("/")[0].split("-")
        asked = (world.goal.kind, world.goal.object, world.goal.target)
        assert asked == (kind, thing.lower(), target.lower())
        places = {r.role for r in world.receptacles.values()}
        things = {i.kind for i in world.items.values()}
        within = {p for p in world.can_contain if p[0] in places and p[1] in things}
        write_game(world, tmp_path / world.id)
        again = read_world(tmp_path / world.id)
        assert again == replace(world, can_contain=frozenset(within)), file


def test_a_gap_in_the_numbers_of_a_kind_is_refused(tmp_path: Path) -> None:
    world = read_world(find_games(SHIPPED)[0].path)
    name = next(iter(world.receptacles))
    moved = world.receptacles.pop(name)
    kind = moved.kind
    world.receptacles[f"{kind} 99"] = replace(moved, name=f"{kind} 99")
    with pytest.raises(ValueError, match=f"no '{kind} 99'"):
        write_game(world, tmp_path / "t" / "g")
    assert not (tmp_path / "t" / "g").exists()


def test_a_sentence_that_would_break_the_grammar_is_refused(tmp_path: Path) -> None:
    world = read_world(find_games(SHIPPED)[0].path)
    world.goal = replace(world.goal, sentence='put a "{mug}" in #sink#.')
    with pytest.raises(ValueError, match="grammar cannot hold"):
        write_game(world, tmp_path / "t" / "g")


def _broken(change: str) -> str:
    game = load_game(find_games(SHIPPED)[0].path)
    if change == "no init":
        game["pddl_problem"] = game["pddl_problem"].replace("(:init", "(:outset")
    elif change == "a bracket short":
        game["pddl_problem"] = game["pddl_problem"].rstrip()[:-1]
    elif change == "no agent":
        game["pddl_problem"] = game["pddl_problem"].replace("(atLocation", "(wasLocation")
    elif change == "no key":
        del game["grammar"]
    elif change == "cut off":
        return json.dumps(game)[:5000]
    elif change == "no object":
        return "[]"
    return json.dumps(game)


@pytest.mark.parametrize(
    "change", ["no init", "a bracket short", "no agent", "no key", "cut off", "no object"]
)
def test_a_broken_game_file_is_told_in_one_sentence(tmp_path: Path, change: str) -> None:
    file = tmp_path / "game.tw-pddl"
    file.write_text(_broken(change))
    with pytest.raises(UserError, match=r"game\.tw-pddl .*") as told:
        read_world(file)
    assert "\n" not in str(told.value)


def test_a_missing_game_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*no such file"):
        read_world(tmp_path / "nowhere" / "game.tw-pddl")
