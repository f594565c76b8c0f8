"""Our generated games are genuine ALFWorld games: stock ALFWorld loads them, a plan wins them."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from edge_router.errors import UserError
from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.game_files import SHIPPED, find_games
from edge_router.tasks.alfworld.generate import expert_plan, generate_games, prove
from edge_router.tasks.drawn import Drawn
from edge_router.tasks.household.generator import draw_world
from edge_router.tasks.household.pddl import load_game, read_world, write_game
from edge_router.tasks.household.rules import KIND_NAMES
from tests.household_walks import walk

GAMES = find_games(SHIPPED)


@pytest.fixture
def stock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """alfworld's own module, imported without its folder in the home directory."""
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    from alfworld.agents.environment import alfred_tw_env

    return alfred_tw_env


def _stock_config(folder: Path) -> dict[str, Any]:
    return {
        "dataset": {"data_path": str(folder), "num_train_games": -1},
        "env": {"task_types": [1, 2, 3, 4, 5, 6], "goal_desc_human_anns_prob": 0},
    }


# -- the shipped set ----------------------------------------------------------


def test_at_least_ten_games_of_each_type_are_shipped() -> None:
    counts = Counter(g.kind for g in GAMES)
    assert set(counts) == set(KIND_NAMES)
    assert min(counts.values()) >= 10
    assert sum(f.stat().st_size for f in SHIPPED.rglob("*") if f.is_file()) < 6_000_000


def test_stock_alfworld_collects_every_shipped_game(
    stock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    env = stock.AlfredTWEnv(_stock_config(SHIPPED))
    assert sorted(env.game_files) == sorted(str(g.path) for g in GAMES)
    capsys.readouterr()


def _stock_play(stock: Any, file: Path) -> list[bool]:
    import textworld

    infos = textworld.EnvInfos(won=True, admissible_commands=True)
    env = textworld.start(str(file), infos, wrappers=[stock.AlfredDemangler])
    state = env.reset()
    won = []
    for command in load_game(file)["walkthrough"]:
        assert command in state["admissible_commands"]
        state, _, _ = env.step(command)
        won.append(state["won"])
    return won


# The stock engine translates a game three times; the other types are among the slow tests.
@pytest.mark.parametrize(
    "kind",
    [
        kind if kind.startswith("pick_and") else pytest.param(kind, marks=pytest.mark.slow)
        for kind in KIND_NAMES
    ],
)
def test_stock_alfworld_wins_a_shipped_game_of_each_type_by_its_plan(kind: str, stock: Any) -> None:
    file = min((g.path for g in GAMES if g.kind == kind), key=lambda f: f.stat().st_size)
    won = _stock_play(stock, file)
    assert won[-1]
    assert not any(won[:-1])


@pytest.mark.slow
def test_every_shipped_game_is_won_by_its_plan() -> None:
    assert [g.id for g in GAMES if not prove(g.path)] == []


@pytest.mark.parametrize("every", [60, pytest.param(12, marks=pytest.mark.slow)])
def test_the_engine_gives_the_names_of_the_world(every: int) -> None:
    for game in GAMES[::every]:
        world = read_world(game.path)
        task = AlfworldGame(game.path)
        opening = task.reset()
        task.close()
        listed = opening.observation.split("you see a ")[1].rstrip(".").replace(", and a ", ", a ")
        assert listed.split(", a ") == list(world.receptacles)
        assert opening.goal == world.goal.sentence
        assert (task.id, task.kind) == (world.id, world.goal.kind)


def test_no_shipped_problem_is_an_official_one() -> None:
    root = Path(os.environ.get("ALFWORLD_DATA") or "/nonexistent") / "json_2.1.1"
    official = {load_game(f)["pddl_problem"] for f in root.rglob("game.tw-pddl")}
    assert not official & {load_game(g.path)["pddl_problem"] for g in GAMES}
    assert not {g.id.split("/")[1] for g in GAMES} & {f.parent.name for f in root.rglob("*")}


# -- generating ---------------------------------------------------------------


@pytest.mark.parametrize("count", [2, pytest.param(7, marks=pytest.mark.slow)])
def test_generated_games_take_turns_in_type_and_are_proven(count: int, tmp_path: Path) -> None:
    told: list[Drawn] = []
    games = generate_games(count, seed=3, out=tmp_path / "new", progress=told.append)
    assert [g.kind for g in games] == [*KIND_NAMES, *KIND_NAMES][:count]
    assert [t.game for t in told] == games
    assert [t.done for t in told] == list(range(1, count + 1))
    assert find_games(tmp_path / "new") == sorted(games, key=lambda g: g.id)
    assert not [f for f in (tmp_path / "new").iterdir() if f.name.startswith(".")]
    for game, drawn in zip(games, told, strict=True):
        assert len(load_game(game.path)["walkthrough"]) == drawn.steps
        assert game.path.parent.stat().st_mode & 0o777 == 0o755


def test_a_seed_gives_the_same_games_whatever_their_number(tmp_path: Path) -> None:
    two = generate_games(2, seed=4, out=tmp_path / "two")
    one = generate_games(1, seed=4, out=tmp_path / "one")
    assert one[0].id == two[0].id
    assert one[0].path.read_bytes() == two[0].path.read_bytes()
    other = generate_games(1, seed=5, out=tmp_path / "other")
    assert load_game(other[0].path)["pddl_problem"] != load_game(one[0].path)["pddl_problem"]


def test_interrupting_leaves_whole_games_only(tmp_path: Path) -> None:
    def interrupt(drawn: Drawn) -> None:
        if drawn.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_games(5, seed=6, out=tmp_path / "cut", progress=interrupt)
    left = find_games(tmp_path / "cut")
    assert len(left) == 1
    assert len(list((tmp_path / "cut").rglob("*.tw-pddl"))) == 1
    assert all(prove(g.path) for g in left)


def test_a_game_whose_plan_does_not_win_is_not_proven(tmp_path: Path) -> None:
    world = draw_world(random.Random(1), "pick_and_place_simple")
    plan = expert_plan(world)
    assert prove(write_game(world, tmp_path / "whole", plan))
    assert not prove(write_game(world, tmp_path / "short", plan[:-1]))
    assert not prove(write_game(world, tmp_path / "long", [*plan, "look"]))
    assert not prove(write_game(world, tmp_path / "none"))


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="already holds files"):
        generate_games(1, seed=0, out=tmp_path)
    with pytest.raises(UserError, match="Cannot make the folder"):
        generate_games(1, seed=0, out=tmp_path / "notes.txt")
    assert [f.name for f in tmp_path.iterdir()] == ["notes.txt"]


def test_fewer_than_one_game_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 1, not 0"):
        generate_games(0, seed=0, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


# -- the spared work ----------------------------------------------------------


@pytest.mark.slow  # a fast one with a small game is in test_hostile_games.py
def test_the_spared_engine_tells_and_offers_what_the_stock_engine_does(stock: Any) -> None:
    import textworld

    file = min((g.path for g in GAMES if "pick_heat" in g.id), key=lambda f: f.stat().st_size)
    infos = textworld.EnvInfos(won=True, admissible_commands=True)
    plain = textworld.start(str(file), infos, wrappers=[stock.AlfredDemangler])
    game = AlfworldGame(file)
    for seed in (1, 2):  # the second reset of our game uses what the first one remembered
        state, opening = plain.reset(), game.reset()
        assert opening.observation in state.feedback
        rng = random.Random(seed)
        for command in islice(walk(read_world(file), rng, game.admissible), 6):
            state, _, done = plain.step(command)
            reply = game.step(command)
            assert (reply.observation, reply.done) == (state.feedback.strip(), done)
            assert list(game.admissible()) == state["admissible_commands"]
    game.close()


def test_a_plan_is_kept_in_the_game_file() -> None:
    game = json.loads(GAMES[0].path.read_text())
    assert list(game) == ["pddl_domain", "grammar", "pddl_problem", "walkthrough", "solvable"]
