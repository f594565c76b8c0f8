"""Draw households that look like ALFWorld's and can be won.

Rooms, items, placements and goals follow the tables of `facts` (counted over
the official train split). A `novel` share of the games asks for a pair of
object and target the train split never asks for, so that a learner cannot get
by with remembering pairs. A world is kept only if the scripted expert, who
sees no more than a player does, wins it within the step limit.

    rng = random.Random(0)
    world = draw_world(rng, "pick_heat_then_place_in_recep")
"""

from __future__ import annotations

import random
from collections import Counter

from edge_router.tasks.household.expert import Expert
from edge_router.tasks.household.facts import can_contain, facts, receptacle_kinds
from edge_router.tasks.household.rules import KIND_NAMES, KINDS, SIMPLE
from edge_router.tasks.household.simulator import Simulator
from edge_router.tasks.household.world import (
    Goal,
    Item,
    Receptacle,
    World,
    kind_of,
    listing_key,
)
from edge_router.tasks.protocol import scripted_steps

STEP_LIMIT = 50
MAX_RECEPTACLES = 54  # the largest official kitchen
MAX_TRIES = 200


def draw_world(
    rng: random.Random, kind: str | None = None, *, novel: float = 0.3, name: str = ""
) -> World:
    """A world of task `kind` (any, when None) that the expert wins.

    Raises RuntimeError if MAX_TRIES draws in a row cannot be won, which would
    mean that the tables ask for something impossible.
    """
    kind = kind or rng.choice(KIND_NAMES)
    for _ in range(MAX_TRIES):
        world = _draw(rng, kind, novel, name)
        if world is not None and expert_wins(world):
            return world
    raise RuntimeError(f"no winnable {kind} in {MAX_TRIES} draws")


def expert_wins(world: World) -> bool:
    """True if the game is open at the start and the expert closes it in time."""
    sim = Simulator(world)
    if sim.goal_holds():
        return False
    expert = Expert(sim.opening())
    return any(step.reply.won for step in scripted_steps(sim.step, expert, STEP_LIMIT))


def _draw(rng: random.Random, kind: str, novel: float, name: str) -> World | None:
    room, thing, target = _novel_goal(rng, kind) if rng.random() < novel else _known_goal(rng, kind)
    scene = rng.choice(facts()["rooms"][room]["scenes"])
    rules = KINDS[kind]
    needed = [] if rules.in_light else [target]
    if rules.treatment is not None:
        needed.append(rules.treatment.station)
    receptacles = _draw_receptacles(rng, room, needed)
    items = _draw_items(rng, room, receptacles, kind, thing, target)
    if items is None:
        return None
    sentence = rng.choice(rules.goals).format(o=thing, r=target)
    return World(
        id=name or f"{kind}-{thing}-{target}-{scene}",
        scene=scene,
        receptacles=receptacles,
        items=items,
        goal=Goal(kind, thing, target, sentence),
        start=max(r.location for r in receptacles.values()) + 1,
        can_contain=can_contain(),
    )


# -- goals --------------------------------------------------------------------


def _known_goal(rng: random.Random, kind: str) -> tuple[str, str, str]:
    """A (room, object, target) as often as the train split asks for it."""
    table = {
        tuple(key.split(" ", 1)[1].rsplit(" ", 2)): n
        for key, n in facts()["goals"].items()
        if key.startswith(kind + " ")
    }
    room, thing, target = rng.choices(list(table), weights=list(table.values()))[0]
    return room, thing, target


def _novel_goal(rng: random.Random, kind: str) -> tuple[str, str, str]:
    """Any object and target that fit the task and the room."""
    rooms = facts()["rooms"]
    if KINDS[kind].in_light:
        room = rng.choice(["bedroom", "living room"])
        lamps = [k for k in rooms[room]["items"] if k in ("desklamp", "floorlamp")]
        things = [k for k in rooms[room]["items"] if "pickupable" in facts()["properties"][k]]
        return room, rng.choice(things), rng.choice(lamps)
    treatment = KINDS[kind].treatment
    able = treatment.able if treatment else "pickupable"
    choices = [
        (room, thing, target)
        for room, tables in rooms.items()
        if treatment is None or treatment.station in tables["receptacles"]
        for thing in tables["items"]
        if {able, "pickupable"} <= set(facts()["properties"][thing])
        for target in tables["receptacles"]
        if (target, thing) in can_contain()
    ]
    return rng.choice(choices)


# -- receptacles --------------------------------------------------------------


def _draw_count(rng: random.Random, weights: list[int], at_least: int = 0) -> int:
    """A count as often as the train split has it; `at_least` where the goal needs it."""
    count = rng.choices(range(len(weights)), weights=weights)[0]
    return max(count, at_least)


def _draw_receptacles(rng: random.Random, room: str, needed: list[str]) -> dict[str, Receptacle]:
    tables = facts()["rooms"][room]["receptacles"]
    counts = {
        kind: _draw_count(rng, tables.get(kind, [1]), int(kind in needed))
        for kind in receptacle_kinds()
    }
    while sum(counts.values()) > MAX_RECEPTACLES:
        counts[max(counts, key=lambda k: counts[k])] -= 1
    names = sorted(
        (f"{kind} {n}" for kind, count in counts.items() for n in range(1, count + 1)),
        key=listing_key,
    )
    standpoints = list(range(len(names)))
    rng.shuffle(standpoints)
    receptacles: dict[str, Receptacle] = {}
    for name, location in zip(names, standpoints, strict=True):
        if receptacles and rng.random() < facts()["shared_standpoint"]:
            location = rng.choice(list(receptacles.values())).location
        fixed, opens = facts()["openable"][kind_of(name)]
        openable = rng.random() < opens / (fixed + opens)
        receptacles[name] = Receptacle(name, location, openable=openable)
    return receptacles


# -- items --------------------------------------------------------------------


def _draw_items(
    rng: random.Random,
    room: str,
    receptacles: dict[str, Receptacle],
    kind: str,
    thing: str,
    target: str,
) -> dict[str, Item] | None:
    """All items with their places; None where the goal's own items find no place."""
    tables = facts()["rooms"][room]["items"]
    rules = KINDS[kind]
    lamp = target if rules.in_light else ""
    items: list[Item] = []
    for item in sorted({*tables, thing} | ({lamp} if lamp else set())):
        at_least = rules.count if item == thing else int(item == lamp)
        count = _draw_count(rng, tables.get(item, [1]), at_least)
        avoid = target if item == thing and rules is SIMPLE else ""  # it would be won at once
        placed = 0
        for _ in range(count):
            place = _draw_place(rng, item, receptacles, avoid)
            if place is not None:
                placed += 1
                items.append(_make_item(rng, f"{item} {placed}", place, receptacles))
        if placed < at_least:
            return None
    by_name = {item.name: item for item in sorted(items, key=lambda i: listing_key(i.name))}
    _fill_containers(rng, by_name)
    return by_name


def _draw_place(
    rng: random.Random, kind: str, receptacles: dict[str, Receptacle], avoid: str
) -> str | None:
    present = Counter(r.kind for r in receptacles.values() if r.kind != avoid)
    seen = facts()["places"].get(kind, {})
    weights = {p: seen[p] for p in seen if p in present}
    if not weights or rng.random() < 0.1:  # anywhere it fits, now and then
        weights = {p: 1 for p in present if (p, kind) in can_contain()} or weights
    if not weights:
        return None
    place = rng.choices(list(weights), weights=list(weights.values()))[0]
    return rng.choice([r.name for r in receptacles.values() if r.kind == place])


def _make_item(
    rng: random.Random, name: str, place: str, receptacles: dict[str, Receptacle]
) -> Item:
    kind = kind_of(name)
    item = Item(name, places=(place,), location=receptacles[place].location, pickupable=False)
    for able in facts()["properties"][kind]:
        setattr(item, able, True)
    total = sum(facts()["places"].get(kind, {}).values())
    item.cool = rng.random() < facts()["cool_at_start"].get(kind, 0) / max(total, 1)
    partners = [
        pair.replace(kind_of(place), "", 1).strip()
        for pair in facts()["in_two"]
        if kind_of(place) in pair.split()
    ]
    if partners and rng.random() < 0.03:
        second = [r.name for r in receptacles.values() if r.kind in partners and r.name != place]
        if second:
            item.places = (place, rng.choice(second))
    return item


def _fill_containers(rng: random.Random, items: dict[str, Item]) -> None:
    """Now and then an item lies inside a container that stands in the same place."""
    pairs = {tuple(pair.split()) for pair in facts()["inside"]}
    for outer in items.values():
        if not outer.container:
            continue
        for inner in items.values():
            fits = (inner.kind, outer.kind) in pairs and inner.places == outer.places
            if fits and inner is not outer and rng.random() < 0.3:
                outer.contents = (inner.name,)
                break
