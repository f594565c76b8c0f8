"""ALFWorld games on the real engine, and how they are found and picked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from edge_router.errors import MachineError, UserError
from edge_router.tasks.alfworld.engine import new_engine
from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.game_files import (
    SHIPPED,
    find_games,
    look_for_games,
    split_games,
)
from edge_router.tasks.games import pick
from edge_router.tasks.protocol import Game
from edge_router.tasks.registry import find_task

GAMES = find_games(SHIPPED)


def _smallest() -> Path:
    return min((g.path for g in GAMES), key=lambda p: p.stat().st_size)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ALFWORLD_DATA with three of our games posing as the split valid_seen."""
    for game in GAMES[:3]:
        target = tmp_path / "json_2.1.1" / "valid_seen" / game.id
        shutil.copytree(game.path.parent, target)
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    return tmp_path


# -- playing ------------------------------------------------------------------


def test_the_opening_is_the_room_without_banner_and_task() -> None:
    game: Game = AlfworldGame(_smallest())
    opening = game.reset()
    game.close()
    start = "You are in the middle of a room. Looking quickly around you, you see a "
    assert opening.observation.startswith(start)
    assert opening.observation.endswith(".")
    assert "Welcome" not in opening.observation
    assert "task" not in opening.observation
    traj = json.loads((_smallest().parent / "traj_data.json").read_text())
    assert opening.goal == traj["turk_annotations"]["anns"][0]["task_desc"]
    assert game.kind == traj["task_type"]


def test_a_game_is_won_by_its_plan_and_can_be_played_again() -> None:
    game = AlfworldGame(_smallest())
    plan = json.loads(_smallest().read_text())["walkthrough"]
    for _ in range(2):
        game.reset()
        replies = [game.step(command) for command in plan]
        assert [r.won for r in replies] == [False] * (len(plan) - 1) + [True]
        assert [r.done for r in replies] == [r.won for r in replies]
    game.close()
    game.reset()
    assert not game.step("look").won
    game.close()


def test_what_is_not_admissible_changes_nothing() -> None:
    game = AlfworldGame(_smallest())
    game.reset()
    before = game.admissible()
    for command in ("", "fly to the moon", "Look", "take the  apple", "go to moon 1"):
        reply = game.step(command)
        assert (reply.observation, reply.done, reply.won) == ("Nothing happens.", False, False)
        assert game.admissible() == before
    game.close()


def test_every_admissible_command_is_accepted() -> None:
    game = AlfworldGame(_smallest())
    game.reset()
    game.step(game.admissible()[0])
    commands = game.admissible()
    assert list(commands) == sorted(set(commands))
    assert {"look", "inventory", "help"} <= set(commands)
    for command in commands:
        game.reset()
        game.step(game.admissible()[0])
        assert game.step(command).observation != "Nothing happens."
        if command.startswith("take"):
            break
    game.close()


def test_two_games_at_once_do_not_disturb_each_other() -> None:
    first, second = AlfworldGame(GAMES[0].path), AlfworldGame(GAMES[-1].path)
    room = first.reset().observation
    second.reset()
    entered = first.admissible()[0]
    alone = first.step(entered).observation
    second.step(second.admissible()[0])
    assert first.step("inventory").observation == "You are not carrying anything."
    first.close()
    assert second.step("inventory").observation == "You are not carrying anything."
    again = AlfworldGame(GAMES[0].path)
    assert again.reset().observation == room
    assert again.step(entered).observation == alone
    again.close()
    second.close()


def test_playing_is_silent_and_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from edge_router.tasks.alfworld.game import AlfworldGame\n"
        "assert 'textworld' not in sys.modules\n"
        f"games = [AlfworldGame(p) for p in {[str(_smallest()), str(GAMES[1].path)]!r}]\n"
        "for game in games:\n"
        "    game.reset(); game.step('look'); game.close()\n"
        "assert sys.argv == ['-c', 'untouched'], sys.argv\n"
        "assert 'ALFWORLD_DATA' not in os.environ\n"
        "assert not os.listdir(os.environ['HOME']), os.listdir(os.environ['HOME'])\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    env = {k: v for k, v in os.environ.items() if k != "ALFWORLD_DATA"} | {"HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-Wdefault", "-c", script, "untouched"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("pddl_problem", "(:init", "(:init (holds agent1"),
        ("pddl_problem", "(:goal", "(:gaol"),
        ("pddl_problem", "(:domain alfred)", "(:domain wonderland)"),
        ("pddl_domain", "(:action look", "(:action"),
        ("grammar", "action GotoLocation {", "action GotoLocation ["),
    ],
)
def test_a_game_the_engine_rejects_is_told_in_one_sentence(
    tmp_path: Path, part: str, old: str, new: str
) -> None:
    game = json.loads(_smallest().read_text())
    assert old in game[part]
    game[part] = game[part].replace(old, new, 1)
    file = tmp_path / "game.tw-pddl"
    file.write_text(json.dumps(game))
    with pytest.raises(UserError, match="engine rejects") as told:
        AlfworldGame(file).reset()
    assert "\n" not in str(told.value)
    sound = AlfworldGame(_smallest())
    sound.reset()
    assert sound.step("inventory").observation == "You are not carrying anything."
    sound.close()


# -- finding ------------------------------------------------------------------


def test_games_are_found_in_the_usual_layout_in_a_stable_order(data: Path) -> None:
    found = split_games("valid_seen")
    assert [g.id for g in found] == sorted(g.id for g in GAMES[:3])
    assert found == find_games(data, "valid_seen")
    assert found == find_games(data / "json_2.1.1", "valid_seen")
    assert found == find_games(data / "json_2.1.1" / "valid_seen")


def test_movable_sliced_and_unsolvable_games_are_left_out(data: Path) -> None:
    split = data / "json_2.1.1" / "valid_seen"
    kept = find_games(split)[0]
    movable = split / "pick_and_place_with_movable_recep-Pen-Bowl-Desk-307" / "trial_1"
    sliced = split / "pick_and_place_simple-AppleSliced-None-Fridge-1" / "trial_1"
    other = split / "dance_simple-Pen-None-Desk-307" / "trial_1"
    for folder in (movable, sliced):
        shutil.copytree(kept.path.parent, folder)
    shutil.copytree(kept.path.parent, other)
    (other / "traj_data.json").write_text('{"task_type": "dance_simple"}')
    hidden = split / ".writing" / "trial_1"
    shutil.copytree(kept.path.parent, hidden)
    for game in find_games(split)[1:]:
        text = game.path.read_text()
        assert '"solvable": true}' in text
        game.path.write_text(text.replace('"solvable": true}', '"solvable": false}'))
    assert find_games(split) == [kept]
    game = json.loads(kept.path.read_text())
    kept.path.write_text(json.dumps({"solvable": False, **{k: game[k] for k in game}}))
    assert find_games(split) == [kept]  # the later "solvable": true holds
    del game["solvable"]
    kept.path.write_text(json.dumps(game))
    with pytest.raises(UserError, match="no playable games"):
        find_games(split)


def test_games_behind_links_are_found_and_told_by_the_links_names(tmp_path: Path) -> None:
    task, trial = GAMES[0].path.parents[1], GAMES[1].path.parent
    (tmp_path / "task").symlink_to(task)
    (tmp_path / "by-hand").mkdir()
    (tmp_path / "by-hand" / "trial_x").symlink_to(trial)
    (tmp_path / "by-hand" / "round").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    found = look_for_games(tmp_path)
    assert [g.id for g in found.games] == ["by-hand/trial_x", f"task/{GAMES[0].path.parent.name}"]
    assert found.left_out == {"behind a link that leads nowhere": 1}
    assert AlfworldGame(found.games[0].path).id == "by-hand/trial_x"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"solvable": None}, "without a 'solvable' mark"),
        ({"solvable": False}, "marked as not solvable"),
        ("traj_data.json", "without traj_data.json"),
        ("game.tw-pddl", "without game.tw-pddl"),
        ("trial_Sliced_1", "with 'Sliced' in the name"),
        ("dance/trial_1", "of another task type"),
    ],
)
def test_every_reason_to_leave_a_game_out_is_told_with_its_count(
    tmp_path: Path, change: Any, reason: str
) -> None:
    for name in ("trial_1", "trial_2"):
        folder = tmp_path / "pick_and_place_simple-Pen-None-Desk-1" / name
        shutil.copytree(_smallest().parent, folder)
        file = folder / "game.tw-pddl"
        if isinstance(change, dict):
            game = {**json.loads(file.read_text()), **change}
            file.write_text(json.dumps({k: v for k, v in game.items() if v is not None}))
        elif change.startswith("trial"):
            folder.rename(folder.with_name(f"{name}_{change}"))
        elif change.startswith("dance"):
            (folder / "traj_data.json").write_text('{"task_type": "dance"}')
            shutil.move(folder, tmp_path / "dance" / name)
        else:
            (folder / change).unlink()
    with pytest.raises(UserError, match=f"no playable games: left out: 2 {reason}") as told:
        find_games(tmp_path)
    shutil.copytree(_smallest().parent, tmp_path / "pick_and_place_simple-x" / "trial_3")
    found = look_for_games(tmp_path)
    assert len(found.games) == 1
    assert found.note.startswith(f"left out: 2 {reason}")
    assert "\n" not in str(told.value)


def test_a_temporary_folder_without_room_is_no_damaged_game(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))  # a folder that holds nothing
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))
    new_engine()  # in a folder of our own
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "file"))
    with pytest.raises(MachineError, match=r"planner \(.*TMPDIR") as told:
        new_engine()
    assert "damaged" not in str(told.value)
    assert tempfile.tempdir == str(tmp_path / "file")


def test_doctor_tells_why_the_game_engine_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "file"))
    *_, found = find_task().examine()
    assert (found.what, found.stops) == ("game engine", True)
    assert "TMPDIR" in found.found


def test_without_alfworld_data_our_own_games_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    assert split_games() == GAMES
    monkeypatch.setenv("ALFWORLD_DATA", "")
    assert split_games() == GAMES


def test_with_alfworld_data_the_default_is_valid_seen(data: Path) -> None:
    assert all(data in g.path.parents for g in split_games())
    assert split_games("generated") == GAMES


# -- picking ------------------------------------------------------------------


def test_a_game_is_picked_by_index_id_trial_prefix_or_at_random() -> None:
    game = GAMES[7]
    assert pick(GAMES, 7) == pick(GAMES, "7") == game
    assert pick(GAMES, game.id) == game
    trial = game.id.split("/")[1]
    assert pick(GAMES, trial) == game
    assert pick(GAMES, game.id[:-1]) == game
    drawn = [pick(GAMES, "random", seed).id for seed in range(30)]
    assert drawn == [pick(GAMES, "random", seed).id for seed in range(30)]
    assert len(set(drawn)) > 10
    assert pick(split_games("generated"), trial) == game


@pytest.mark.parametrize(
    ("selector", "sentence"),
    [
        (str(len(GAMES)), rf"no game {len(GAMES)}; this set has games 0 to {len(GAMES) - 1}\."),
        ("-1", r"no game -1; this set has games 0 to"),
        ("pick_", r"'pick_' fits \d+ games \(pick_.*write more of the id"),
        (GAMES[3].id.replace("trial", "trail"), rf"did you mean '{GAMES[3].id}'"),
        ("zebra", r"There is no game 'zebra'\."),
    ],
)
def test_an_unknown_game_is_told_with_the_nearest_one(selector: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        pick(GAMES, selector)


def test_an_unknown_split_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"no split 'valid_sen' .did you mean 'valid_seen'"):
        split_games("valid_sen")


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("nowhere", "ALFWORLD_DATA points to .*nowhere, which is no folder"),
        ("empty", "no folder of games at .*empty/json_2.1.1/valid_seen"),
        ("empty/json_2.1.1/train", "no folder of games"),
    ],
)
def test_alfworld_data_without_games_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, sentence: str
) -> None:
    (tmp_path / "empty" / "json_2.1.1" / "train").mkdir(parents=True)
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / folder))
    with pytest.raises(UserError, match=sentence):
        split_games()
    assert not (tmp_path / "nowhere").exists()


def test_an_official_split_without_alfworld_data_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"ALFWORLD_DATA is not set.*--split generated"):
        split_games("train")


def test_a_file_that_is_no_game_is_told(tmp_path: Path) -> None:
    file = tmp_path / "game.tw-pddl"
    file.write_text('{"pddl_domain": "", "grammar": ""}')
    with pytest.raises(UserError, match="no text under 'pddl_problem'"):
        AlfworldGame(file)
    file.write_text('{"pddl_domain": ')
    with pytest.raises(UserError, match="cannot be read as a game"):
        AlfworldGame(tmp_path)
