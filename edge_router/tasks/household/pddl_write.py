"""Writes a World as a genuine ALFWorld game, so that stock ALFWorld plays our households, too.

A game folder holds `game.tw-pddl` (domain and grammar of the installed alfworld, our problem,
the task sentence put into the grammar as ALFWorld does) and `traj_data.json`.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from edge_router.files.whole import write_text
from edge_router.tasks.household.rules import KINDS, KNIVES, PREDICATES, TREATMENTS
from edge_router.tasks.household.world import (
    Goal,
    Item,
    Receptacle,
    World,
    kind_of,
    listing_key,
    number_of,
)

GAME_FILE = "game.tw-pddl"
DATA_FILE = "traj_data.json"

# ALFRED's spelling of the kinds; the engine lower-cases them, its tools and folder names do not.
_KINDS = """
    AlarmClock Apple ArmChair BaseballBat BasketBall Bathtub BathtubBasin Bed Blinds Book Boots
    Bowl Box Bread ButterKnife CD Cabinet Candle Cart CellPhone Chair Cloth CoffeeMachine
    CoffeeTable CounterTop CreditCard Cup Curtains Desk DeskLamp DiningTable DishSponge Drawer
    Dresser Egg FloorLamp Footstool Fork Fridge GarbageCan Glassbottle HandTowel HandTowelHolder
    HousePlant Kettle KeyChain Knife Ladle Laptop LaundryHamper LaundryHamperLid Lettuce
    LightSwitch Microwave Mirror Mug Newspaper Ottoman Painting PaintingHanger Pan PaperTowel
    PaperTowelRoll Pen Pencil PepperShaker Pillow Plate Plunger Poster Pot Potato RemoteControl
    Safe SaltShaker ScrubBrush Shelf ShowerDoor ShowerGlass SideTable Sink SinkBasin SoapBar
    SoapBottle Sofa Spatula Spoon SprayBottle Statue StoveBurner StoveKnob TVStand TeddyBear
    Television TennisRacket TissueBox Toaster Toilet ToiletPaper ToiletPaperHanger
    ToiletPaperRoll Tomato Towel TowelHolder Vase Watch WateringCan Window WineBottle
"""
_SPELLING = {kind.lower(): kind for kind in _KINDS.split()}
# Kinds that the domain's actions name: they must be there, in the house or not.
_DOMAIN_RTYPES = tuple(treatment.station for treatment in TREATMENTS.values())
_SENTENCE = re.compile(r"[A-Za-z0-9 ,'-]+")  # what the grammar takes as plain text


def spelling(kind: str) -> str:
    """ALFRED's spelling of a kind: "countertop" -> "CounterTop"."""
    return _SPELLING.get(kind, kind.capitalize())


def write_game(world: World, folder: str | Path, plan: Sequence[str] = ()) -> Path:
    """Write `world` as the game folder `folder` and return its `game.tw-pddl`.

    The engine numbers entities itself, so the numbers of each kind must run from 1 without a
    gap; then it hands out exactly the world's names. `canContain` facts are written only for
    kinds that are in the house. `plan`, commands that win, goes under TextWorld's key
    "walkthrough". ValueError when the world cannot be written. Each file is whole or absent;
    the game file comes last.
    """
    target = Path(folder)
    trial = target.resolve().name
    problem = "\n".join(_problem(world, trial))
    grammar = _package_text("alfred.twl2").replace("UNKNOWN GOAL.", _sentence(world.goal) + ".")
    game = {
        "pddl_domain": _package_text("alfred.pddl"),
        "grammar": grammar,
        "pddl_problem": problem,
        **({"walkthrough": list(plan)} if plan else {}),
        "solvable": True,
    }
    target.mkdir(parents=True, exist_ok=True)
    _write_json(target / DATA_FILE, _traj_data(world, trial))
    return _write_json(target / GAME_FILE, game)


def _sentence(goal: Goal) -> str:
    sentence = goal.sentence.removesuffix(".")
    if not _SENTENCE.fullmatch(sentence):
        raise ValueError(f"the grammar cannot hold the task sentence {goal.sentence!r}")
    return sentence


@cache
def _package_text(name: str) -> str:
    """A data file of the installed alfworld; alfworld is not imported, which takes seconds."""
    spec = importlib.util.find_spec("alfworld")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("alfworld is not installed")
    return (Path(spec.submodule_search_locations[0]) / "data" / name).read_text(encoding="utf-8")


def _write_json(path: Path, data: dict[str, Any]) -> Path:
    write_text(path, json.dumps(data), durable=False)  # thousands of games are drawn in a row
    return path


def _traj_data(world: World, trial: str) -> dict[str, Any]:
    goal = world.goal
    in_light = KINDS[goal.kind].in_light
    return {
        "task_id": trial,
        "task_type": goal.kind,
        "pddl_params": {
            "mrecep_target": "",
            "object_sliced": False,
            "object_target": spelling(goal.object),
            "parent_target": "" if in_light else spelling(goal.target),
            "toggle_target": spelling(goal.target) if in_light else "",
        },
        "scene": {"floor_plan": f"FloorPlan{world.scene}", "scene_num": world.scene},
        "turk_annotations": {"anns": [{"task_desc": goal.sentence}]},
    }


def _ids(world: World) -> dict[str, str]:
    """Entity ids whose sorted order makes ALFWorld's Demangler give the world's names."""
    names = [*world.receptacles, *world.items]
    counts = Counter(kind_of(name) for name in names)
    ids = {}
    for name in names:
        kind, number, count = kind_of(name), number_of(name), counts[kind_of(name)]
        if not 1 <= number <= count:
            raise ValueError(f"there are {count} of kind '{kind}', so there can be no '{name}'")
        place = f"{count - number:0{len(str(count))}d}"
        base = kind.removesuffix("basin") if kind in ("sinkbasin", "bathtubbasin") else kind
        tail = f"_bar_{spelling(kind)}" if base != kind else ""
        ids[name] = f"{spelling(base)}_bar_{place}{tail}"
    if len(set(ids.values())) != len(names):
        raise ValueError("two entities of the world have one name")
    return ids


def _problem(world: World, trial: str) -> Iterator[str]:
    ids = _ids(world)
    rkinds = {r.role for r in world.receptacles.values()}
    okinds = {i.kind for i in world.items.values()}
    yield f"(define (problem plan_{trial})"
    yield "(:domain alfred)"
    yield "(:objects"
    yield " agent1 - agent"
    goal_rkinds, goal_okinds = _goal_kinds(world.goal)
    for kind in sorted(rkinds | goal_rkinds | {*_DOMAIN_RTYPES}):
        yield f" {spelling(kind)}Type - rtype"
    for kind in sorted(okinds | goal_okinds | {*KNIVES}):
        yield f" {spelling(kind)}Type - otype"
    for name in sorted(world.items, key=listing_key):
        yield f" {ids[name]} - object"
    for name in sorted(world.receptacles, key=listing_key):
        yield f" {ids[name]} - receptacle"
    for location in sorted(_locations(world)):
        yield f" {_location(location)} - location"
    yield ")"
    yield "(:init"
    yield f" (atLocation agent1 {_location(world.start)})"
    for rkind, okind in sorted(world.can_contain):
        if rkind in rkinds and okind in okinds:
            yield f" (canContain {spelling(rkind)}Type {spelling(okind)}Type)"
    for name in sorted(world.receptacles, key=listing_key):
        yield from _receptacle_facts(world.receptacles[name], ids)
    for name in sorted(world.items, key=listing_key):
        yield from _item_facts(world.items[name], ids)
    yield ")"
    yield from _goal(world.goal)
    yield ")"


def _locations(world: World) -> set[int]:
    held = {i.location for i in world.items.values()} - {-1}
    return held | {r.location for r in world.receptacles.values()} | {world.start}


def _location(number: int) -> str:
    return f"loc_bar_{number}"


def _receptacle_facts(receptacle: Receptacle, ids: dict[str, str]) -> Iterator[str]:
    own = ids[receptacle.name]
    yield f" (receptacleType {own} {spelling(receptacle.role)}Type)"
    yield f" (receptacleAtLocation {own} {_location(receptacle.location)})"
    if receptacle.openable:
        yield f" (openable {own})"
    if receptacle.opened:
        yield f" (opened {own})"


def _item_facts(item: Item, ids: dict[str, str]) -> Iterator[str]:
    own = ids[item.name]
    yield f" (objectType {own} {spelling(item.kind)}Type)"
    if item.location >= 0:
        yield f" (objectAtLocation {own} {_location(item.location)})"
    for flag, predicate in PREDICATES.items():
        if getattr(item, flag):
            yield f" ({predicate} {own})"
    for place in item.places:
        yield f" (inReceptacle {own} {ids[place]})"
    for inner in item.contents:
        yield f" (inReceptacleObject {ids[inner]} {own})"


def _goal_kinds(goal: Goal) -> tuple[set[str], set[str]]:
    """The receptacle kinds and the item kinds that a goal names."""
    if KINDS[goal.kind].in_light:
        return set(), {goal.object, goal.target}
    return {goal.target}, {goal.object}


def _goal(goal: Goal) -> Iterator[str]:
    """ALFRED's goals, condition for condition."""
    object_type, target_type = f"{spelling(goal.object)}Type", f"{spelling(goal.target)}Type"
    kind = KINDS[goal.kind]
    if kind.in_light:
        yield "(:goal (and"
        yield " (exists (?ot - object ?r - receptacle ?a - agent ?l - location) (and"
        yield f"  (objectType ?ot {target_type}) (toggleable ?ot) (isToggled ?ot)"
        yield "  (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?ot ?r)))"
        yield " (exists (?o - object ?a - agent) (and"
        yield f"  (objectType ?o {object_type}) (holds ?a ?o)))))"
    elif kind.count == 2:
        yield "(:goal (and (exists (?r - receptacle) (exists (?o1 - object) (and"
        yield f" (objectType ?o1 {object_type}) (receptacleType ?r {target_type})"
        yield " (inReceptacle ?o1 ?r)"
        yield " (exists (?o2 - object) (and (not (= ?o1 ?o2))"
        yield f"  (objectType ?o2 {object_type}) (receptacleType ?r {target_type})"
        yield "  (inReceptacle ?o2 ?r))))))))"
    else:
        yield "(:goal (and (exists (?r - receptacle) (exists (?o - object) (and"
        if (needed := kind.treatment) is not None:
            yield f" ({PREDICATES[needed.able]} ?o)"
            yield f" ({PREDICATES[needed.state]} ?o)"
        yield f" (objectType ?o {object_type}) (receptacleType ?r {target_type})"
        yield " (inReceptacle ?o ?r))))))"
