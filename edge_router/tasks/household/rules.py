"""ALFWorld's rules as tables: what can be done to an item where, and what games ask for.

World, simulator, expert, generator, reader and writer of PDDL, and the prompts all go by these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REFUSED: Final = "Nothing happens."  # the reply to a command that was not possible
KNIVES: Final = ("knife", "butterknife")

# A flag of `world.Item` -> its predicate in ALFWorld's PDDL, in the order of the written files.
PREDICATES: Final = {
    "pickupable": "pickupable",
    "cleanable": "cleanable",
    "heatable": "heatable",
    "coolable": "coolable",
    "toggleable": "toggleable",
    "sliceable": "sliceable",
    "container": "isReceptacleObject",
    "clean": "isClean",
    "hot": "isHot",
    "cool": "isCool",
    "toggled": "isToggled",
    "sliced": "isSliced",
}


@dataclass(frozen=True)
class Treatment:
    """What is done to the item in the hand at a station. `able` and the states are Item's flags."""

    verb: str  # of the command: "heat mug 1 with microwave 1"
    station: str  # a receptacle kind
    able: str
    state: str  # it has afterwards, and a goal calls it so: "put a hot mug in ..."
    undoes: str = ""  # the state that it takes away


@dataclass(frozen=True)
class GameKind:
    """One of ALFWorld's types of games. `goals` are its sentences: {o} the object, {r} where to."""

    name: str
    goals: tuple[str, ...]
    treatment: Treatment | None = None
    count: int = 1  # objects that must lie in the same receptacle
    in_light: bool = False  # the object is looked at in the light of a lamp, which is {r}


def _treated(treatment: Treatment) -> GameKind:
    verb, state = treatment.verb, treatment.state
    goals = (f"put a {state} {{o}} in {{r}}.", f"{verb} some {{o}} and put it in {{r}}.")
    return GameKind(f"pick_{verb}_then_place_in_recep", goals, treatment)


TREATMENTS: Final = {
    treatment.verb: treatment
    for treatment in (
        Treatment("clean", "sinkbasin", "cleanable", "clean"),
        Treatment("heat", "microwave", "heatable", "hot", undoes="cool"),
        Treatment("cool", "fridge", "coolable", "cool", undoes="hot"),
    )
}
SIMPLE: Final = GameKind("pick_and_place_simple", ("put a {o} in {r}.", "put some {o} on {r}."))
IN_LIGHT: Final = GameKind(
    "look_at_obj_in_light",
    ("look at {o} under the {r}.", "examine the {o} with the {r}."),
    in_light=True,
)
TWO: Final = GameKind(
    "pick_two_obj_and_place",
    ("put two {o} in {r}.", "find two {o} and put them in {r}."),
    count=2,
)
# The order is part of what a seed draws.
KINDS: Final = {
    kind.name: kind for kind in (SIMPLE, IN_LIGHT, *map(_treated, TREATMENTS.values()), TWO)
}
KIND_NAMES: Final = tuple(KINDS)
