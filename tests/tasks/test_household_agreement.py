"""The simulator answers as the real ALFWorld engine does, command for command.

Compared after every command: the sentence, done, won, and the list of admissible commands.
On an idle core a step costs about 6 ms on the engine.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.game_files import SHIPPED, find_games
from edge_router.tasks.games import GameRef
from edge_router.tasks.household.pddl import read_world, write_game
from edge_router.tasks.household.rules import REFUSED
from edge_router.tasks.household.simulator import Simulator
from edge_router.tasks.household.world import Goal, Item, Receptacle, World
from tests.household_walks import walk

ALWAYS = ("go", "open", "close", "take", "move", "look", "inventory", "examine", "use", "clean")
KITCHEN = ("heat", "cool", "slice")


def official() -> list[Path]:
    """Train games of ALFWORLD_DATA, when it is there."""
    folder = Path(os.environ.get("ALFWORLD_DATA") or "/nonexistent") / "json_2.1.1" / "train"
    return sorted(folder.glob("*/*/game.tw-pddl")) if folder.is_dir() else []


def play_both(file: Path, commands: Callable[[World, AlfworldGame], Iterable[str]]) -> Counter[str]:
    """Play one game on engine and simulator; returns the accepted verbs' counts."""
    world = read_world(file)
    sim, game = Simulator(world), AlfworldGame(file)
    assert game.reset() == sim.opening()
    seen: Counter[str] = Counter()
    history = []
    for command in commands(world, game):
        history.append(command)
        theirs, ours = game.step(command), sim.step(command)
        told = f"{file}\nafter {history[-12:]}"
        assert ours.observation.strip() == theirs.observation, told
        assert (ours.done, ours.won) == (theirs.done, theirs.won), told
        assert sim.admissible() == game.admissible(), told
        refused = theirs.observation == REFUSED
        seen["refused" if refused else command.split()[0]] += 1
        seen["won"] += theirs.won
    game.close()
    return seen


def play_all(files: list[Path], steps: int, seed: int) -> Counter[str]:
    total: Counter[str] = Counter()
    for file in files:
        total += play_both(
            file,
            lambda world, game: islice(
                walk(world, Random(f"{seed} {world.id}"), game.admissible), steps
            ),
        )
    return total


def one_of_each_kind(every: int) -> list[Path]:
    games = find_games(SHIPPED)
    kinds = sorted({g.kind for g in games})
    return [g.path for kind in kinds for g in [g for g in games if g.kind == kind][::every]]


def smallest_of_each_kind() -> list[Path]:
    files = {g.kind: g.path for g in sorted(find_games(SHIPPED), key=_size, reverse=True)}
    return list(files.values())


def _size(game: GameRef) -> int:
    return game.path.stat().st_size


def test_simulator_and_engine_agree_on_our_own_games() -> None:
    """With a seed of which a short walk has every verb."""
    seen = play_all(smallest_of_each_kind(), steps=20, seed=22)
    assert seen["refused"] >= 30
    assert [verb for verb in (*ALWAYS, *KITCHEN) if not seen[verb]] == []


@pytest.mark.skipif(not official(), reason="ALFWORLD_DATA holds no train games")
def test_simulator_and_engine_agree_on_official_games() -> None:
    seen = play_all(official()[::50], steps=50, seed=22)
    assert seen["refused"] >= 50
    # Which verbs a walk meets depends on the games that are there.
    assert len([verb for verb in ALWAYS if not seen[verb]]) <= 2


@pytest.mark.slow
def test_simulator_and_engine_agree_on_5000_steps() -> None:
    files = one_of_each_kind(every=2) + official()[::10]
    seen = play_all(files, steps=1 + 5000 // len(files), seed=3)
    won = seen.pop("won")
    assert seen.total() >= 5000
    assert won >= 20
    assert seen["refused"] >= 1000
    assert [verb for verb in (*ALWAYS, *KITCHEN) if not seen[verb]] == []


def test_they_agree_on_an_item_that_lies_in_two_places_at_once(tmp_path: Path) -> None:
    """Taken from where it does not count as standing, it can still be sliced where it does."""
    kinds = ("bread", "knife")
    world = World(
        id=f"{tmp_path.name}/double",
        scene=1,
        receptacles={f"countertop {n}": Receptacle(f"countertop {n}", n) for n in (2, 1)},
        items={
            "bread 1": Item("bread 1", ("countertop 2", "countertop 1"), 1, sliceable=True),
            "knife 1": Item("knife 1", ("countertop 1",), 1),
        },
        goal=Goal("pick_two_obj_and_place", "knife", "countertop", "put two knife in countertop."),
        start=3,
        can_contain=frozenset(("countertop", kind) for kind in kinds),
    )
    commands = (
        "go to countertop 2",
        "take bread 1 from countertop 2",
        "move bread 1 to countertop 2",
        "go to countertop 1",
        "look",
        "take knife 1 from countertop 1",
        "slice bread 1 with knife 1",
        "move knife 1 to countertop 1",
        "take bread 1 from countertop 1",
        "examine bread 1",
        "go to countertop 2",
        "examine countertop 2",
    )
    seen = play_both(write_game(world, tmp_path / "double"), lambda *_: commands)
    assert seen == Counter(go=3, take=3, move=2, look=1, slice=1, examine=2, won=0)


def test_they_agree_on_a_bathtubbasin_that_counts_as_a_sinkbasin(tmp_path: Path) -> None:
    """As in official scene 420: one can clean in it, and it fulfils a goal that says sinkbasin."""
    world = World(
        id=f"{tmp_path.name}/bath",
        scene=420,
        receptacles={
            "bathtubbasin 1": Receptacle("bathtubbasin 1", 1, counts_as="sinkbasin"),
            "toilet 1": Receptacle("toilet 1", 2),
        },
        items={"cloth 1": Item("cloth 1", ("toilet 1",), 2, cleanable=True)},
        goal=Goal(
            "pick_clean_then_place_in_recep",
            "cloth",
            "sinkbasin",
            "put a clean cloth in sinkbasin.",
        ),
        start=3,
        can_contain=frozenset({("sinkbasin", "cloth")}),
    )
    commands = (
        "go to toilet 1",
        "take cloth 1 from toilet 1",
        "move cloth 1 to toilet 1",
        "go to bathtubbasin 1",
        "clean cloth 1 with bathtubbasin 1",
        "move cloth 1 to bathtubbasin 1",
    )
    seen = play_both(write_game(world, tmp_path / "bath"), lambda *_: commands)
    assert seen == Counter(go=2, take=1, refused=1, clean=1, move=1, won=1)
