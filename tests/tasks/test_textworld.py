"""TextWorld games on their own engine: won by their walkthrough, and safe to get from anybody."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_router.errors import UserError
from edge_router.tasks.drawn import Drawn
from edge_router.tasks.games import GameRef
from edge_router.tasks.protocol import scripted_steps
from edge_router.tasks.registry import find_task
from edge_router.tasks.textworld import engine
from edge_router.tasks.textworld.game import (
    LONGEST,
    UNKNOWN,
    TextworldGame,
    as_typed,
    is_outside,
    reply_text,
)
from edge_router.tasks.textworld.game_files import CHALLENGES, SHIPPED, read_about
from edge_router.tasks.textworld.generate import generate_games

TASK = find_task("textworld")
GAMES = {game.kind: game for game in TASK.games().games}


def opened(kind: str) -> TextworldGame:
    return TextworldGame(GAMES[kind].path)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A game that may be damaged; the .json lies beside it."""
    path = GAMES["coin_collector"].path
    for file in (path, path.with_suffix(".json")):
        shutil.copy(file, tmp_path / f"game{file.suffix}")
    return tmp_path / "game.z8"


def described(program: Path, **parts: Any) -> None:
    """Replace parts of what a game's .json says."""
    file = program.with_suffix(".json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **parts}))


# -- playing --------------------------------------------------------------------------------------


def test_a_game_of_every_challenge_is_shipped() -> None:
    assert set(GAMES) == set(CHALLENGES)
    assert all(game.task == "textworld" for game in GAMES.values())


@pytest.mark.parametrize("kind", CHALLENGES)
def test_its_walkthrough_wins_a_game_and_every_point(kind: str) -> None:
    with closing(TASK.open(GAMES[kind])) as game:
        opening = game.reset()
        player = TASK.player(opening, GAMES[kind])
        assert player is not None
        played = list(scripted_steps(game.step, player, 50))
    replies = [step.reply for step in played]
    assert opening.observation.startswith("-= ")
    assert opening.goal
    assert [r.won for r in replies] == [False] * (len(replies) - 1) + [True]
    assert replies[-1].done
    assert replies[-1].score == opening.max_score
    scores = [r.score for r in replies if r.score is not None]
    assert scores == sorted(scores)
    assert not any(TASK.refused(r.observation) for r in replies)


def test_a_game_starts_anew_in_the_same_words() -> None:
    actions = ("open fridge", "go north", "dance", "look", "inventory")
    with closing(opened("cooking")) as game:
        first = [game.reset(), *(game.step(a) for a in actions), game.admissible()]
        second = [game.reset(), *(game.step(a) for a in actions), game.admissible()]
    with closing(opened("cooking")) as other:
        third = [other.reset(), *(other.step(a) for a in actions), other.admissible()]
    assert first == second == third


def test_what_is_admissible_is_not_refused() -> None:
    with closing(opened("simple")) as game:
        game.reset()
        commands = game.admissible()
        assert commands == tuple(sorted(commands))
        assert "look" in commands
        for command in commands:
            game.reset()
            assert not TASK.refused(game.step(command).observation), command


def test_a_lost_game_is_over_and_says_so() -> None:
    """To cook with the wrong appliance burns or spoils the ingredient; to eat it loses as well."""
    with closing(opened("cooking")) as game:
        game.reset()
        for command in game.about.walkthrough:
            if command.startswith(("cook", "prepare", "slice", "chop", "dice")):
                break
            game.step(command)
        food = next(c for c in game.admissible() if c.startswith("eat "))
        reply = game.step(food)
        assert (reply.done, reply.won) == (True, False)
        assert "*** You lost! ***" in reply.observation
        assert game.step("look") == reply


@pytest.mark.parametrize(
    "action",
    ["quit", "RESTART", "save", "transcript", "look. restart", "take coin, undo", "look then quit",
     "tw-extra-infos score", "restrict commands", "purloin coin", "oops restart"],
)  # fmt: skip
def test_no_command_that_is_outside_the_game_reaches_it(action: str) -> None:
    assert is_outside(as_typed(action))


def test_a_command_outside_the_game_is_refused_in_its_words() -> None:
    with closing(opened("coin_collector")) as game:
        before = game.reset()
        reply = game.step("restart")
        assert (reply.observation, reply.done, reply.score) == (UNKNOWN, False, 0)
        assert TASK.refused(reply.observation)
        assert game.step("look").observation == before.observation


@pytest.mark.parametrize(
    ("action", "typed"),
    [
        ("  open\n the  box ", "open the box"),
        ("\\help", "help"),
        ("../../etc/passwd", ".. .. etc passwd"),
        ("nimm den Schlüssel", "nimm den Schl ssel"),
        ("a" * 500, "a" * LONGEST),
        ("", ""),
    ],
)
def test_a_command_is_one_line_of_plain_characters(action: str, typed: str) -> None:
    assert as_typed(action) == typed


@pytest.mark.parametrize("action", ["take the brief note", "take key and box", "go north", "look"])
def test_a_command_of_the_game_reaches_it(action: str) -> None:
    assert not is_outside(as_typed(action))


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("\nTaken.\n\n>" + " " * 90 + "-= Room =-0/7", "Taken."),
        ("\nAre you sure?" + " " * 90 + "-= Room =-0/7", "Are you sure?"),
        ("\n\n-= A =-\nOne.\n\n\n\n  Two.\n\n>   x", "-= A =-\nOne.\nTwo."),
        (
            "Yes.\n\n   *** The End ***\n\nYou scored 1.\n\nRESTART?\n> -= A =-",
            "Yes.\n*** The End ***",
        ),
    ],
)
def test_prompt_status_line_and_blank_lines_are_left_out(said: str, text: str) -> None:
    assert reply_text(said) == text


@pytest.mark.parametrize(
    ("sentence", "refused"),
    [
        ("You can't see any such thing.", True),
        ("(the toilet)\nIt isn't something you can open.", True),
        ("What do you want to open?", True),
        ("You need to take the apple first.", True),
        ("The couch is fixed in place.", True),
        ("That doesn't seem to fit the lock.", True),
        ("You open the box, revealing a key.", False),
        ("The toilet is shaky.", False),
        ("-= Room =-\nYou are in a room. You can't miss it.", False),
        ("You are carrying nothing.", False),
        ("Adding the meal to your inventory.", False),
    ],
)
def test_a_refusal_is_known_by_its_words(sentence: str, refused: bool) -> None:
    assert TASK.refused(sentence) is refused


# -- files of strangers ---------------------------------------------------------------------------


def test_a_game_opens_no_file(copied: Path) -> None:
    """The interpreter's own commands write files; asked past our refusal, it cannot."""
    child = engine.take()
    child.ask({"load": str(copied)})
    child.ask({"reset": True})
    assert "Cannot open file" in child.ask({"step": "transcript"})["text"]
    assert "Save failed" in child.ask({"step": "save"})["text"]
    engine.give_back(child)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda f: f.with_suffix(".json").unlink(), "cannot be played without game.json"),
        (lambda f: f.write_bytes(f.read_bytes()[:9000]), "is cut short: it has 9000 of"),
        (lambda f: f.write_bytes(f.read_bytes()[:-9000] + bytes(9000)), "damaged: its checksum"),
        (lambda f: f.write_bytes(b""), "is no Z-machine program of version 8"),
        (lambda f: f.write_bytes(b"\5" + f.read_bytes()[1:]), "is no Z-machine program"),
        (lambda f: described(f, objective=""), "has no objective: nothing says how it is won"),
        (lambda f: described(f, quests=[]), "has no objective"),
        (lambda f: described(f, KB=3), "describes no TextWorld game: it has no KB"),
        (lambda f: f.with_suffix(".json").write_text("[]"), "it holds no JSON object"),
        (lambda f: f.with_suffix(".json").write_text('{"KB'), "it is not JSON"),
    ],
)
def test_what_is_wrong_with_a_game_is_told_when_it_is_opened(
    copied: Path, harm: Any, told: str
) -> None:
    harm(copied)
    with pytest.raises(UserError, match=told):
        TASK.open(TASK.games(folder=copied).games[0])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("game.ulx", "Glulx game, which TextWorld cannot play"),
        ("game.json", "only describes a game; give the .z8"),
        ("game.z5", "no TextWorld game: give the .z8"),
    ],
)
def test_a_file_of_another_format_is_told(copied: Path, name: str, told: str) -> None:
    file = copied.with_name(name)
    file.touch()
    with pytest.raises(UserError, match=told):
        TASK.open(TASK.games(folder=file).games[0])


@pytest.mark.parametrize(
    "parts",
    [
        {"KB": {"logic": "type t {", "text_grammars_path": ""}},
        {"world": [{"name": "at", "arguments": []}]},
        {"infos": [["r_0", 3]]},
        {"quests": [{"win_events": [1]}]},
    ],
)
def test_a_game_that_the_engine_does_not_understand_is_told(
    copied: Path, parts: dict[str, Any]
) -> None:
    described(copied, **parts)
    game = TextworldGame(copied)
    with pytest.raises(UserError, match=r"TextWorld cannot play .*game\.z8: "):
        game.reset()


def test_templates_that_eat_memory_are_stopped(copied: Path) -> None:
    said = json.loads(copied.with_suffix(".json").read_text())["KB"]
    huge = said["logic"].replace('"look"', '"look {P:>99999999999}"')
    assert huge != said["logic"]
    described(copied, KB={**said, "logic": huge})
    with closing(TextworldGame(copied)) as game, pytest.raises(UserError, match="cannot play"):
        game.reset()


def test_a_program_that_breaks_its_interpreter_ends_no_process_of_ours(copied: Path) -> None:
    program = bytearray(copied.read_bytes())
    program[64:] = bytes(len(program) - 64)
    program[28:30] = bytes(2)  # its checksum
    copied.write_bytes(program)
    with pytest.raises(UserError, match="cannot play"):
        TextworldGame(copied).reset()
    with closing(opened("coin_collector")) as game:
        assert game.reset().observation


# -- folders --------------------------------------------------------------------------------------


def test_a_folder_is_searched_and_what_is_left_out_is_told(copied: Path) -> None:
    below = copied.parent / "more"
    below.mkdir()
    shutil.copy(copied, below / "lonely.z8")
    (below / "old.ulx").touch()
    found = TASK.games(folder=copied.parent)
    assert [game.id for game in found.games] == ["game"]
    assert found.left_out == {
        "without the .json that tw-make writes beside it": 1,
        "not in the format .z8": 1,
    }


@pytest.mark.parametrize(
    ("split", "folder", "told"),
    [
        ("generatd", None, "did you mean 'generated'"),
        (None, "nowhere", "There is no folder of games at nowhere"),
        ("generated", ".", "exclude each other"),
    ],
)
def test_games_that_are_not_there_are_told(split: str, folder: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        TASK.games(split, folder)


# -- new games ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[GameRef, Drawn]:
    told: list[Drawn] = []
    folder = tmp_path_factory.mktemp("new")
    (game,) = TASK.generate(1, 5, folder, "coin_collector", told.append)
    return game, told[0]


def test_a_generated_game_is_proven_and_found(generated: tuple[GameRef, Drawn]) -> None:
    game, told = generated
    assert TASK.games(folder=game.path.parent).games == (game,)
    assert (told.game, told.done, told.count) == (game, 1, 1)
    assert (game.id, game.kind) == ("coin_collector-S5-0000", "coin_collector")
    assert len(read_about(game.path).walkthrough) == told.steps
    assert sorted(f.suffix for f in game.path.parent.iterdir()) == [".json", ".z8"]


@pytest.mark.slow
def test_a_seed_gives_the_shipped_games(tmp_path: Path) -> None:
    generate_games(4, 7, tmp_path / "again")
    for file in SHIPPED.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_a_challenge_that_there_is_not_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no challenge 'cookin' \(did you mean 'cooking'"):
        TASK.generate(1, 0, tmp_path / "new", "cookin")
    assert not (tmp_path / "new").exists()
