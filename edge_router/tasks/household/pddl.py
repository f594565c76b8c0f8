"""World from and to ALFWorld's game files, so that one household serves engine and simulator.

`read_world` understands any `game.tw-pddl` of ALFWorld 0.4 (official or ours). Names follow
ALFWorld's own Demangler: over all sorted entity ids, each kind hands out its numbers from the
highest down, and `..._bar_SinkBasin` is a "sinkbasin".
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edge_router.errors import UserError
from edge_router.files.data_files import read_object
from edge_router.tasks.household.pddl_write import DATA_FILE, GAME_FILE, write_game
from edge_router.tasks.household.rules import IN_LIGHT, KINDS, PREDICATES, SIMPLE, TWO
from edge_router.tasks.household.world import (
    Goal,
    Item,
    Receptacle,
    World,
    kind_of,
    listing_key,
)

__all__ = ["entity_names", "game_id", "load_game", "read_world", "task_sentence", "write_game"]

GAME_KEYS = ("pddl_domain", "grammar", "pddl_problem")

_TOKEN = re.compile(r";[^\n]*|[()]|[^\s();]+")
_TASK_SENTENCE = re.compile(r"Your task is to: ([^\"\n]*)\"")
_OWN_LOCATION = re.compile(r"loc_bar_(\d+)")
# The engine lower-cases a problem, and so does `_tree`.
_FLAGS = {predicate.lower(): flag for flag, predicate in PREDICATES.items()}
_GOAL_STATES = {
    PREDICATES[kind.treatment.state].lower(): kind for kind in KINDS.values() if kind.treatment
}

Facts = dict[str, list[tuple[str, ...]]]


def load_game(file: Path) -> dict[str, Any]:
    """The JSON object of a game file, checked for the keys the engine needs."""
    data = read_object(file, "a game")
    for key in GAME_KEYS:
        if not isinstance(data.get(key), str):
            raise UserError(f"{file} is not a valid game file: it has no text under '{key}'.")
    return data


def read_world(game: str | Path) -> World:
    """The household of an official or generated game.

    `game` is a `game.tw-pddl` file or the folder that holds it. Entities that lie in no
    receptacle (windows, stove knobs) are kept, as they take part in the numbering.
    Reading what `write_game` wrote gives an equal world.
    Raises UserError when the file is not a game this project can play.
    """
    file = Path(game)
    if file.is_dir():
        file = file / GAME_FILE
    data = load_game(file)
    try:
        return _world(data, file)
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(f"{file} holds no problem in ALFWorld's PDDL: {error}.") from error


def task_sentence(grammar: str) -> str:
    """The task sentence frozen into a game's grammar, or '' when there is none."""
    match = _TASK_SENTENCE.search(grammar)
    return match.group(1) if match else ""


def game_id(folder: Path) -> str:
    """ "<task folder>/<trial folder>", the name under which a game is found again."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}"


def _world(data: dict[str, Any], file: Path) -> World:
    facts, goal = _sections(data["pddl_problem"])
    names = entity_names({arg for rows in facts.values() for row in rows for arg in row})
    locations = _locations(facts)
    receptacles = _receptacles(facts, names, locations)
    items = _items(facts, names, locations)
    ((_, start),) = facts["atlocation"]
    return World(
        id=game_id(file.parent),
        scene=_scene(file.parent),
        receptacles={r.name: r for r in sorted(receptacles, key=lambda r: listing_key(r.name))},
        items={i.name: i for i in sorted(items, key=lambda i: listing_key(i.name))},
        goal=_goal(goal, task_sentence(data["grammar"])),
        start=locations[start],
        can_contain=frozenset((_kind(r), _kind(o)) for r, o in facts["cancontain"]),
    )


def _tree(text: str) -> list[Any]:
    """Nested lists of lower-cased words of an s-expression (the engine lower-cases, too)."""
    stack: list[list[Any]] = [[]]
    for token in _TOKEN.findall(text.lower()):
        if token.startswith(";"):
            continue
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise ValueError("a closing bracket too many")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) != 1 or len(stack[0]) != 1 or not isinstance(stack[0][0], list):
        raise ValueError("the brackets of the problem do not match")
    return stack[0][0]


def _sections(problem: str) -> tuple[Facts, list[Any]]:
    parts = {part[0]: part[1:] for part in _tree(problem) if isinstance(part, list) and part}
    for key in (":objects", ":init", ":goal"):
        if key not in parts:
            raise ValueError(f"the problem has no {key}")
    facts: Facts = defaultdict(list)
    for fact in parts[":init"]:
        facts[fact[0]].append(tuple(fact[1:]))
    return facts, parts[":goal"]


def entity_names(ids: Iterable[str]) -> dict[str, str]:
    """ALFWorld's rule: over the sorted ids, the highest number of a kind comes first."""
    kinds = {i: _entity_kind(i) for i in sorted(ids) if "_bar_" in i}
    left = Counter(kinds.values())
    names = {}
    for entity, kind in kinds.items():
        names[entity] = f"{kind} {left[kind]}"
        left[kind] -= 1
    return names


def _entity_kind(entity: str) -> str:
    kind = entity.split("_bar_", 1)[0]
    return kind + "basin" if "basin" in entity else kind


def _kind(type_name: str) -> str:
    return type_name.removesuffix("type")


def _locations(facts: Facts) -> dict[str, int]:
    """Ids of locations to numbers: our own files carry the number, others are counted."""
    rows = facts["atlocation"] + facts["receptacleatlocation"] + facts["objectatlocation"]
    ids = sorted({row[1] for row in rows})
    own = [_OWN_LOCATION.fullmatch(i) for i in ids]
    if all(own):
        return {m.string: int(m.group(1)) for m in own if m}
    return {location: number for number, location in enumerate(ids)}


def _receptacles(
    facts: Facts, names: dict[str, str], locations: dict[str, int]
) -> Iterator[Receptacle]:
    openable = {r for (r,) in facts["openable"]}
    opened = {r for (r,) in facts["opened"]}
    types = {r: _kind(t) for r, t in facts["receptacletype"]}
    for receptacle, location in facts["receptacleatlocation"]:
        name = names[receptacle]
        yield Receptacle(
            name=name,
            location=locations[location],
            openable=receptacle in openable,
            opened=receptacle in opened,
            counts_as="" if types[receptacle] == kind_of(name) else types[receptacle],
        )


def _items(facts: Facts, names: dict[str, str], locations: dict[str, int]) -> Iterator[Item]:
    places: dict[str, set[str]] = defaultdict(set)
    contents: dict[str, set[str]] = defaultdict(set)
    flags: dict[str, dict[str, bool]] = defaultdict(dict)
    for item, receptacle in facts["inreceptacle"]:
        places[item].add(names[receptacle])
    for inner, outer in facts["inreceptacleobject"]:
        contents[outer].add(names[inner])
    for predicate, flag in _FLAGS.items():
        for (item,) in facts[predicate]:
            flags[item][flag] = True
    where = {item: locations[location] for item, location in facts["objectatlocation"]}
    for item, _ in facts["objecttype"]:
        yield Item(
            name=names[item],
            places=tuple(sorted(places[item], key=listing_key)),
            location=where.get(item, -1),
            contents=tuple(sorted(contents[item], key=listing_key)),
            **{"pickupable": False, **flags[item]},
        )


def _goal(tree: list[Any], sentence: str) -> Goal:
    conditions = list(_conditions(tree))
    predicates = {c[0] for c in conditions}
    if "issliced" in predicates or "inreceptacleobject" in predicates:
        raise ValueError("its goal asks for slices or movable receptacles, which is not supported")
    types = {c[1]: _kind(c[2]) for c in conditions if c[0] in ("objecttype", "receptacletype")}
    if "istoggled" in predicates:
        lamp = next(c[1] for c in conditions if c[0] == "istoggled")
        held = next(c[2] for c in conditions if c[0] == "holds")
        return Goal(IN_LIGHT.name, types[held], types[lamp], sentence)
    item, receptacle = next(c[1:] for c in conditions if c[0] == "inreceptacle")
    kind = TWO if "=" in predicates else SIMPLE
    for predicate in predicates & _GOAL_STATES.keys():
        kind = _GOAL_STATES[predicate]
    return Goal(kind.name, types[item], types[receptacle], sentence)


def _conditions(tree: list[Any]) -> Iterator[list[str]]:
    """The atoms of a goal, whatever and/exists/not they stand under."""
    if tree and isinstance(tree[0], str) and tree[0] not in ("and", "exists", "not", "or"):
        yield tree
        return
    for part in tree:
        if isinstance(part, list) and part and not str(part[0]).startswith("?"):
            yield from _conditions(part)


def _scene(folder: Path) -> int:
    """The floor plan's number from `traj_data.json`, else from the folder's name, else 0."""
    try:
        return int(read_object(folder / DATA_FILE, "a game's data")["scene"]["scene_num"])
    except (UserError, ValueError, KeyError, TypeError, OverflowError):
        tail = folder.resolve().parent.name.rsplit("-", 1)[-1]
        return int(tail) if tail.isdigit() else 0
