"""Walks through a household that visit every rule of the game, refused commands included.

The agreement tests play a walk on the real engine and on the simulator side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

from edge_router.tasks.household.world import World, kind_of

STATIONS = {"heat": "microwave", "cool": "fridge", "clean": "sinkbasin"}
ABLE = {"heat": "heatable", "cool": "coolable", "clean": "cleanable"}
MALFORMED = (
    "",
    "xyzzy",
    "Look",
    "look around",
    "go to",
    "go to nowhere 1",
    "go to  fridge 1",
    "take apple 1",
    "take mug 99 from shelf 1",
    "put mug 1 in/on shelf 1",
    "inventory.",
    "open",
    "examine",
    "> look",
)


ACCEPTED = 3  # accepted commands drawn at random after each errand


def walk(world: World, rng: Random, admissible: Callable[[], Sequence[str]]) -> Iterator[str]:
    """Endless commands: errands that use the household, mixed with random and refused ones."""
    while True:
        errand = rng.choices(
            (_treat, _carry, _light, _slice, _shared, _double, _container, _goal, _noise),
            weights=(3, 3, 2, 2, 2, 2, 1, 4, 3),
        )[0]
        for command in errand(world, rng):
            yield command
            if rng.random() < 0.1:
                yield from _noise(world, rng)
        for _ in range(ACCEPTED):
            yield _accepted(admissible(), rng)


def _accepted(commands: Sequence[str], rng: Random) -> str:
    """One of the accepted commands, each verb with the same chance, moving off half of it."""
    verbs = sorted({c.split()[0] for c in commands} - {"help"})
    verb = rng.choices(verbs, weights=[0.5 if v == "go" else 1 for v in verbs])[0]
    return rng.choice([c for c in commands if c.split()[0] == verb])


def _noise(world: World, rng: Random) -> Iterator[str]:
    """One command of the right form, most often refused, or one of no form at all."""
    item, other = rng.choice(list(world.items)), rng.choice(list(world.items))
    place = rng.choice(list(world.receptacles))
    yield rng.choice(
        (
            "look",
            "inventory",
            "help",
            f"go to {place}",
            f"open {place}",
            f"close {place}",
            f"examine {place}",
            f"examine {item}",
            f"use {item}",
            f"take {item} from {place}",
            f"move {item} to {place}",
            f"heat {item} with {place}",
            f"cool {item} with {place}",
            f"clean {item} with {place}",
            f"slice {item} with {other}",
            rng.choice(MALFORMED),
        )
    )


def _fetch(world: World, item: str) -> Iterator[str]:
    """Stand at the item's place, look into it and take the item."""
    for place in world.items[item].places[:1]:
        yield f"go to {place}"
        yield f"open {place}"
        yield f"examine {item}"
        yield f"take {item} from {place}"


def _drop(world: World, item: str, rng: Random) -> Iterator[str]:
    """Bring the item to a place that accepts it and show it there."""
    fitting = [r for r in world.receptacles if (kind_of(r), kind_of(item)) in world.can_contain]
    place = rng.choice(fitting or list(world.receptacles))
    yield f"go to {place}"
    yield f"move {item} to {place}"
    yield f"open {place}"
    yield f"move {item} to {place}"
    yield rng.choice((f"examine {place}", "look", f"examine {item}", f"close {place}"))


def _choose(world: World, rng: Random, flag: str) -> str | None:
    names = [i.name for i in world.items.values() if getattr(i, flag) and i.places]
    return rng.choice(names) if names else None


def _carry(world: World, rng: Random) -> Iterator[str]:
    item = _choose(world, rng, "pickupable")
    if item:
        yield from _fetch(world, item)
        yield "inventory"
        yield from _drop(world, item, rng)


def _treat(world: World, rng: Random) -> Iterator[str]:
    """Treat one item in several ways, so that every description comes up."""
    item = _choose(world, rng, ABLE[rng.choice(list(ABLE))])
    if item is None:
        return
    yield from _fetch(world, item)
    for verb in rng.sample(list(STATIONS), rng.choice((1, 2, 3))):
        station = next((r for r in world.receptacles if kind_of(r) == STATIONS[verb]), None)
        if station:
            yield f"go to {station}"
            yield f"{verb} {item} with {station}"
            yield f"examine {item}"
    yield from _drop(world, item, rng)


def _light(world: World, rng: Random) -> Iterator[str]:
    lamp = _choose(world, rng, "toggleable")
    if lamp:
        place = world.items[lamp].places[0]
        yield f"use {lamp}"
        yield f"go to {place}"
        yield f"examine {lamp}"
        yield f"use {lamp}"
        yield f"examine {lamp}"
        yield rng.choice((f"use {lamp}", f"take {lamp} from {place}", "look"))


def _slice(world: World, rng: Random) -> Iterator[str]:
    knives = [i for i in world.items if kind_of(i) in ("knife", "butterknife")]
    food = _choose(world, rng, "sliceable")
    if not knives or food is None:
        return
    knife = rng.choice(knives)
    yield from _fetch(world, knife)
    for place in world.items[food].places[:1]:
        yield f"go to {place}"
        yield f"slice {food} with {knife}"
        yield f"open {place}"
        yield f"slice {food} with {knife}"
        yield f"examine {food}"
    yield from _drop(world, knife, rng)
    yield from _treat(world, rng)


def _shared(world: World, rng: Random) -> Iterator[str]:
    """Places with one standpoint: going between them is refused, opening and looking are not."""
    groups: dict[int, list[str]] = {}
    for r in world.receptacles.values():
        groups.setdefault(r.location, []).append(r.name)
    shared = [g for g in groups.values() if len(g) > 1]
    if not shared:
        return
    first, second = rng.sample(rng.choice(shared), 2)
    yield f"go to {first}"
    yield f"go to {second}"
    yield "look"
    yield f"open {second}"
    yield f"examine {second}"
    items = [i.name for i in world.items.values() if first in i.places]
    if items:
        yield from _fetch(world, item := rng.choice(items))
        yield f"move {item} to {second}"
        yield "look"
        yield f"examine {first}"


def _double(world: World, rng: Random) -> Iterator[str]:
    """An item that lies in two receptacles at once is taken from one, then from the other."""
    doubles = [i.name for i in world.items.values() if len(i.places) > 1]
    if not doubles:
        return
    item = rng.choice(doubles)
    yield from _fetch(world, item)
    for place in world.items[item].places:
        yield f"go to {place}"
        yield f"examine {place}"
        yield f"take {item} from {place}"
    yield from _drop(world, item, rng)
    yield "look"


def _container(world: World, rng: Random) -> Iterator[str]:
    item = _choose(world, rng, "container")
    filled = [i.name for i in world.items.values() if i.contents and i.places]
    if filled and rng.random() < 0.7:
        item = rng.choice(filled)
    if item:
        yield from _fetch(world, item)
        yield f"examine {item}"
        yield from _drop(world, item, rng)


def _goal(world: World, rng: Random) -> Iterator[str]:
    """What the task asks for, roughly: so that games are won, and played on after that."""
    goal = world.goal
    items = [i.name for i in world.items.values() if i.kind == goal.object and i.places]
    targets = [r for r in world.receptacles if kind_of(r) == goal.target]
    verb = {"clean": "clean", "heat": "heat", "cool": "cool"}.get(goal.kind.split("_")[1])
    for item in rng.sample(items, min(2, len(items))):
        yield from _fetch(world, item)
        stations = [r for r in world.receptacles if verb and kind_of(r) == STATIONS[verb]]
        for station in stations[:1]:
            yield f"go to {station}"
            yield f"{verb} {item} with {station}"
        if not targets:
            yield from _light(world, rng)
            yield from _drop(world, item, rng)
        for target in targets[:1]:
            yield f"go to {target}"
            yield f"open {target}"
            yield f"move {item} to {target}"
