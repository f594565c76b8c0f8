"""ALFWorld's rules and sentences on a `World`, without PDDL.

The real engine takes 45 ms a step; training on hundreds of thousands of
episodes needs microseconds. This simulator answers every command with the
engine's own sentence ("Nothing happens." to what it refuses). The tests play
both side by side, refused commands included.

    sim = Simulator(world)
    sim.opening()            # "You are in the middle of a room. ..."
    sim.step("go to fridge 1").observation
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial

from edge_router.tasks.household.rules import KINDS, KNIVES, REFUSED, TREATMENTS, Treatment
from edge_router.tasks.household.world import Item, Receptacle, World, kind_of, listing_key
from edge_router.tasks.protocol import Opening, Reply

MIDDLE = "You are in the middle of a room. Looking quickly around you, you see"
HELP = """
Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""

_ENTITY = r"([a-z]+ \d+)"
COMMANDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (verb, re.compile(pattern))
    for verb, pattern in (
        ("go", rf"go to {_ENTITY}"),
        ("open", rf"open {_ENTITY}"),
        ("close", rf"close {_ENTITY}"),
        ("take", rf"take {_ENTITY} from {_ENTITY}"),
        ("move", rf"move {_ENTITY} to {_ENTITY}"),
        ("examine", rf"examine {_ENTITY}"),
        ("use", rf"use {_ENTITY}"),
        *((verb, rf"{verb} {_ENTITY} with {_ENTITY}") for verb in TREATMENTS),
        ("slice", rf"slice {_ENTITY} with {_ENTITY}"),
    )
)


def listing(names: Iterable[str], article: str = "a ") -> str:
    """The engine's enumeration: "a mug 2, a mug 1, and a pen 1"; "nothing" when empty."""
    items = [article + name for name in names]
    if not items:
        return "nothing"
    if len(items) == 1:
        return items[0]
    return ", ".join(items[:-1]) + f", and {items[-1]}"


class Simulator:
    """One game being played. `location`, `holding` and the copied `world` are its state.

    The engine keeps two things that a household would not: an item taken from where it does
    not count as standing (it lay in two receptacles) stays there, so it can be at several
    locations; and "look" lists only items that were once taken from a receptacle here, and
    nothing at all in the middle of the room.
    """

    def __init__(self, world: World) -> None:
        self.world = world.fresh()
        self.location = world.start
        self.holding: str | None = None
        self.won = False
        self.at = {i.name: {i.location} - {-1} for i in self.world.items.values()}
        self.emptied: set[tuple[str, str]] = set()  # (item, receptacle) it was taken from

    def opening(self) -> Opening:
        return Opening(
            observation=f"{MIDDLE} {listing(self.world.receptacles)}.",
            goal=self.world.goal.sentence,
        )

    def step(self, command: str) -> Reply:
        """Play one command. As in the engine, a won game goes on and can cease to be won."""
        observation = self._answer(command.strip())
        self.won = self.goal_holds()
        return Reply(observation=observation, done=self.won, won=self.won)

    def admissible(self) -> tuple[str, ...]:
        """The commands that would be accepted now, sorted, as the engine lists them."""
        return tuple(sorted({"look", "inventory", "help", *self._open_commands()}))

    def _open_commands(self) -> Iterator[str]:
        for r in self.world.receptacles.values():
            if r.location != self.location:
                yield f"go to {r.name}"
                continue
            yield f"examine {r.name}"
            if r.openable:
                yield f"{'close' if r.opened else 'open'} {r.name}"
            if self.holding is not None:
                yield from self._held_commands(self.world.items[self.holding], r)
        for item in self.world.items.values():
            yield from self._item_commands(item)

    def _held_commands(self, held: Item, r: Receptacle) -> Iterator[str]:
        """What can be done at receptacle `r` with the item in the hand."""
        if (r.opened or not r.openable) and (r.role, held.kind) in self.world.can_contain:
            yield f"move {held.name} to {r.name}"
        for treatment in TREATMENTS.values():
            if r.role == treatment.station and getattr(held, treatment.able):
                yield f"{treatment.verb} {held.name} with {r.name}"

    def _item_commands(self, item: Item) -> Iterator[str]:
        places = [r for p in item.places if (r := self._receptacle_here(p)) is not None]
        if item.toggleable and places:
            yield f"use {item.name}"
        if self.holding is None:
            if item.pickupable:
                for r in places:
                    if r.opened or not r.openable:
                        yield f"take {item.name} from {r.name}"
        elif item.name == self.holding:
            yield f"examine {item.name}"
        knife = self.holding is not None and kind_of(self.holding) in KNIVES
        if knife and item.sliceable and self.location in self.at[item.name]:
            yield f"slice {item.name} with {self.holding}"

    # -- what can be seen -------------------------------------------------

    def here(self) -> list[Receptacle]:
        return [r for r in self.world.receptacles.values() if r.location == self.location]

    def contents(self, receptacle: str) -> list[str]:
        return [i.name for i in self.world.items.values() if receptacle in i.places]

    def view(self, r: Receptacle) -> str:
        """What examining a receptacle answers."""
        if r.openable and not r.opened:
            return f"The {r.name} is closed."
        if r.openable:
            return f"The {r.name} is open. In it, you see {listing(self.contents(r.name))}."
        return f"On the {r.name}, you see {listing(self.contents(r.name))}."

    # -- commands ---------------------------------------------------------

    def _answer(self, command: str) -> str:
        if command == "look":
            return self._look()
        if command == "inventory":
            if self.holding is None:
                return "You are not carrying anything."
            return f"You are carrying: {listing([self.holding])}."
        if command == "help":
            return HELP
        for verb, pattern in COMMANDS:
            match = pattern.fullmatch(command)
            if match:
                treat = partial(self._treat, TREATMENTS[verb]) if verb in TREATMENTS else None
                answer: str | None = (treat or getattr(self, f"_{verb}"))(*match.groups())
                return answer if answer is not None else REFUSED
        return REFUSED

    def _look(self) -> str:
        here = self.here()
        if not here:
            return f"{MIDDLE} nothing."
        names = [r.name for r in here]
        floor = [
            item
            for item in self.world.items
            if self.location in self.at[item]
            for name in names
            if (item, name) in self.emptied
        ]
        return f"You are facing the {listing(names, '')}. Next to it, you see {listing(floor)}."

    def _receptacle_here(self, name: str) -> Receptacle | None:
        r = self.world.receptacles.get(name)
        return r if r is not None and r.location == self.location else None

    def _go(self, name: str) -> str | None:
        r = self.world.receptacles.get(name)
        if r is None or r.location == self.location:
            return None
        self.location = r.location
        return f"You arrive at {name}. {self.view(r)}"

    def _open(self, name: str) -> str | None:
        r = self._receptacle_here(name)
        if r is None or not r.openable or r.opened:
            return None
        r.opened = True
        return f"You open the {name}. {self.view(r)}"

    def _close(self, name: str) -> str | None:
        r = self._receptacle_here(name)
        if r is None or not r.openable or not r.opened:
            return None
        r.opened = False
        return f"You close the {name}."

    def _take(self, name: str, source: str) -> str | None:
        item, r = self.world.items.get(name), self._receptacle_here(source)
        if item is None or r is None or not item.pickupable or self.holding:
            return None
        if source not in item.places or (r.openable and not r.opened):
            return None
        item.places = tuple(p for p in item.places if p != source)
        self.emptied.add((name, source))
        self.at[name].discard(self.location)
        item.location = -1
        self.holding = name
        return f"You pick up the {name} from the {source}."

    def _move(self, name: str, target: str) -> str | None:
        r = self._receptacle_here(target)
        if r is None or self.holding != name or (r.openable and not r.opened):
            return None
        if (r.role, kind_of(name)) not in self.world.can_contain:
            return None
        item = self.world.items[name]
        item.places = (*(p for p in item.places if p != target), target)
        item.location = self.location
        self.at[name].add(self.location)
        self.emptied.discard((name, target))
        self.holding = None
        return f"You move the {name} to the {target}."

    def _examine(self, name: str) -> str | None:
        """Items can be examined in the hand only (ALFWorld's other rules never apply)."""
        r = self._receptacle_here(name)
        if r is not None:
            return self.view(r)
        item = self.world.items.get(name)
        return describe(item) if item is not None and self.holding == name else None

    def _use(self, name: str) -> str | None:
        item = self.world.items.get(name)
        if item is None or not item.toggleable:
            return None
        if not any(r.name in item.places for r in self.here()):
            return None
        item.toggled = True
        return f"You turn on the {name}."

    def _treat(self, treatment: Treatment, name: str, place: str) -> str | None:
        r = self._receptacle_here(place)
        if r is None or r.role != treatment.station or self.holding != name:
            return None
        item = self.world.items[name]
        if not getattr(item, treatment.able):
            return None
        setattr(item, treatment.state, True)
        if treatment.undoes:
            setattr(item, treatment.undoes, False)
        return f"You {treatment.verb} the {name} using the {place}."

    def _slice(self, name: str, knife: str) -> str | None:
        item = self.world.items.get(name)
        if item is None or not item.sliceable or self.location not in self.at[name]:
            return None
        if self.holding != knife or kind_of(knife) not in KNIVES:
            return None
        item.sliced = True
        return f"You sliced the {name} with the {knife}."

    # -- the goal ---------------------------------------------------------

    def goal_holds(self) -> bool:
        goal = self.world.goal
        kind = KINDS[goal.kind]
        if kind.in_light:
            return self._holds_in_light()
        needed = kind.treatment
        fitting = [
            item
            for item in self.world.items.values()
            if item.kind == goal.object
            and (needed is None or (getattr(item, needed.able) and getattr(item, needed.state)))
        ]
        per_place: dict[str, int] = {}
        for item in fitting:
            for place in item.places:
                if self.world.receptacles[place].role == goal.target:
                    per_place[place] = per_place.get(place, 0) + 1
        return any(count >= kind.count for count in per_place.values())

    def _holds_in_light(self) -> bool:
        goal = self.world.goal
        if self.holding is None or kind_of(self.holding) != goal.object:
            return False
        here = {r.name for r in self.here()}
        return any(
            item.kind == goal.target and item.toggled and here.intersection(item.places)
            for item in self.world.items.values()
        )


def describe(item: Item) -> str:
    """What examining an item answers; the order of the cases is the engine's grammar."""
    name = item.name
    if item.container:
        inside = listing(sorted(item.contents, key=listing_key))
        return f"This is a normal {name}. In it, you see {inside}."
    warm = "hot" if item.hot else "cool" if item.cool else ""
    if item.clean and item.sliced:
        return f"This is a {warm + ' and ' if warm else ''}clean sliced {name}."
    if item.sliced and warm:
        return f"This is a {warm} sliced {name}."
    if item.clean and warm:
        return f"This is a {warm} and clean {name}."
    if warm:
        return f"This is a {'hot' if item.hot else 'cold'} {name}."
    if item.clean:
        return f"This is a clean {name}."
    if item.toggleable:
        return f"This {name} is {'on' if item.toggled else 'off'}."
    if item.sliceable and item.sliced:
        return f"This is a sliced {name}."
    return f"There's nothing special about {name}."
