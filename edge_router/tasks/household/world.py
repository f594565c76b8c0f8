"""A household as plain data: what stands where, what is asked for.

The same `World` is written out as PDDL for the real engine and played by the
fast simulator, so both see one truth. Names are ALFWorld's ("cabinet 3"):
lower-case kind, space, number. Kinds keep their PDDL spelling ("CounterTop")
in the tables of `facts`; everywhere else they are lower case.
"""

from __future__ import annotations

import re
from copy import copy
from dataclasses import dataclass, field

ENTITY = re.compile(r"\b([a-z]+ \d+)\b")  # "cabinet 3" in a sentence


def kind_of(name: str) -> str:
    """ "cabinet 3" -> "cabinet"."""
    return name.rsplit(" ", 1)[0]


def number_of(name: str) -> int:
    return int(name.rsplit(" ", 1)[1])


def listing_key(name: str) -> tuple[str, int]:
    """The engine's order of entities: by kind, numbers descending.

    ALFWorld hands out numbers from the highest down over the sorted object
    ids, and lists entities in id order. A sinkbasin's id starts with "sink".
    """
    kind, number = name.rsplit(" ", 1)
    base = kind.removesuffix("basin") if kind in ("sinkbasin", "bathtubbasin") else kind
    return (base, -int(number))


@dataclass
class Receptacle:
    """A place that holds things. Receptacles with the same `location` share a standpoint."""

    name: str
    location: int
    openable: bool = False
    opened: bool = False
    counts_as: str = ""  # official scene 420 has a bathtubbasin whose PDDL type is SinkBasin

    @property
    def kind(self) -> str:
        return kind_of(self.name)

    @property
    def role(self) -> str:
        """The kind the rules go by: nearly always that of the name."""
        return self.counts_as or self.kind


@dataclass
class Item:
    """A thing. `places` are the receptacles it is in: in ALFWorld it can be in two at once."""

    name: str
    places: tuple[str, ...] = ()
    location: int = -1  # objectAtLocation; -1 while held
    pickupable: bool = True
    cleanable: bool = False
    heatable: bool = False
    coolable: bool = False
    toggleable: bool = False
    sliceable: bool = False
    container: bool = False  # a receptacle-object, such as a mug that can hold a pen
    contents: tuple[str, ...] = ()  # items inside this container
    clean: bool = False
    hot: bool = False
    cool: bool = False
    toggled: bool = False
    sliced: bool = False

    @property
    def kind(self) -> str:
        return kind_of(self.name)


@dataclass(frozen=True)
class Goal:
    """`kind` is one of `rules.KINDS`; `target` a receptacle kind, or the lamp's."""

    kind: str
    object: str
    target: str
    sentence: str  # "put a clean apple in fridge."


@dataclass
class World:
    """A household with its goal. `receptacles` and `items` are in listing order."""

    id: str
    scene: int  # 1-30 kitchen, 201-230 living room, 301-330 bedroom, 401-430 bathroom
    receptacles: dict[str, Receptacle]
    items: dict[str, Item]
    goal: Goal
    start: int  # the agent's first location; no receptacle stands there
    can_contain: frozenset[tuple[str, str]] = field(repr=False, default=frozenset())
    # can_contain: (receptacle kind, item kind), constant over the games

    def fresh(self) -> World:
        """An independent copy to play on."""
        return World(
            id=self.id,
            scene=self.scene,
            receptacles={k: copy(v) for k, v in self.receptacles.items()},
            items={k: copy(v) for k, v in self.items.items()},
            goal=self.goal,
            start=self.start,
            can_contain=self.can_contain,
        )
