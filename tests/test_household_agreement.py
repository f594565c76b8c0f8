"""The simulator answers as the real ALFWorld engine does, command for command.

Compared after every command: the sentence, done, won, and the list of admissible commands.
On an idle core a step costs about 6 ms on the engine.
"""

from __future__ import annotations

import os
from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from edge_router.tasks.alfworld import AlfworldGame
from edge_router.tasks.game_files import SHIPPED, find_games
from edge_router.tasks.household.pddl import read_world
from edge_router.tasks.household.simulator import Simulator
from tests.household_walks import walk

REFUSED = "Nothing happens."
ALWAYS = ("go", "open", "close", "take", "move", "look", "inventory", "examine", "use", "clean")
KITCHEN = ("heat", "cool", "slice")


def official() -> list[Path]:
    """Train games of ALFWORLD_DATA, when it is there."""
    folder = Path(os.environ.get("ALFWORLD_DATA") or "/nonexistent") / "json_2.1.1" / "train"
    return sorted(folder.glob("*/*/game.tw-pddl")) if folder.is_dir() else []


def play_both(file: Path, steps: int, seed: int) -> Counter[str]:
    """Walk through one game on engine and simulator; returns the accepted verbs' counts."""
    world = read_world(file)
    sim, game = Simulator(world), AlfworldGame(file)
    assert game.reset() == sim.opening()
    seen: Counter[str] = Counter()
    history = []
    for command in islice(walk(world, Random(f"{seed} {world.id}"), game.admissible), steps):
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
        total += play_both(file, steps, seed)
    return total


def one_of_each_kind(every: int) -> list[Path]:
    games = find_games(SHIPPED)
    kinds = sorted({g.kind for g in games})
    return [g.path for kind in kinds for g in [g for g in games if g.kind == kind][::every]]


def test_simulator_and_engine_agree_on_our_own_games() -> None:
    seen = play_all(one_of_each_kind(every=5), steps=100, seed=1)
    counts = seen.copy()
    won = counts.pop("won")
    assert counts.total() >= 1000
    assert won >= 5
    assert counts["refused"] >= 200
    assert [verb for verb in (*ALWAYS, *KITCHEN) if not counts[verb]] == []


@pytest.mark.skipif(not official(), reason="ALFWORLD_DATA holds no train games")
def test_simulator_and_engine_agree_on_official_games() -> None:
    seen = play_all(official()[::25], steps=60, seed=2)
    assert seen["refused"] >= 100
    assert [verb for verb in ALWAYS if not seen[verb]] == []


@pytest.mark.slow
def test_simulator_and_engine_agree_on_5000_steps() -> None:
    files = one_of_each_kind(every=2) + official()[::10]
    seen = play_all(files, steps=1 + 5000 // len(files), seed=3)
    won = seen.pop("won")
    assert seen.total() >= 5000
    assert won >= 20
