"""A game may come from anybody: nothing in it is run as Python, and all real games still play."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from edge_router.errors import UserError
from edge_router.tasks.alfworld import engine
from edge_router.tasks.alfworld.engine import Entity
from edge_router.tasks.alfworld.engine_speed import remembered_translations
from edge_router.tasks.alfworld.expressions import ForbiddenGameError, evaluate, parse
from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.game_files import SHIPPED, find_games

SMALLEST = min((g.path for g in find_games(SHIPPED)), key=lambda p: p.stat().st_size)
EXPRESSION = re.compile(r"\{([^{}|#\n\"]+?)(?:\s*\|[^{}]*)?\}")


def mug() -> Entity:
    entity = Entity("mug_bar_1", "object")
    entity.name, entity.definite, entity.indefinite = "mug 1", "the", "a"
    return entity


def changed(folder: Path, part: str, old: str, new: str) -> Path:
    """The smallest shipped game with one thing in it replaced."""
    game = json.loads(SMALLEST.read_text())
    assert old in game[part]
    game[part] = game[part].replace(old, new)
    file = folder / "game.tw-pddl"
    file.write_text(json.dumps(game))
    return file


# -- expressions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        '__import__("os").system("touch x")',
        "o.__class__",
        "o.name.__class__",
        "o.name.format(o)",
        "o.name.upper()",
        "o['name']",
        "[o for o in (1,)]",
        "f'{o.name}'",
        "o.name if o else o",
        "lambda: o",
        "(x := o)",
        "o.name % o",
        "o.name * 99",
        "o and o.name",
        "1",
        "b'x'",
        r"'\x7b' + o.name",
        "'{0.__class__}'",
        "o.copy",
        "",
        "o.",
        "(" * 300,
        "o.name + " * 200 + "o.name",
    ],
)
def test_what_is_no_name_or_text_of_an_entity_is_refused(expression: str) -> None:
    with pytest.raises(ForbiddenGameError, match="grammar holds") as told:
        parse(expression)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("o.name", "mug 1"),
        ("o", "mug 1"),
        ("o.indefinite + ' ' + o.name", "a mug 1"),
        ("o.name or o.id", "mug 1"),
        ("o.desc or o.id", "mug_bar_1"),
        (" o.name ", "mug 1"),
    ],
)
def test_the_forms_of_alfworlds_grammars_have_their_value(expression: str, value: str) -> None:
    assert str(evaluate(parse(expression), {"o": mug()})) == value
    assert str(eval(expression.strip(), {"o": mug()})) == value


def official() -> list[Path]:
    """The official games that ALFWORLD_DATA holds."""
    data = os.environ.get("ALFWORLD_DATA")
    splits = ("train", "valid_seen") if data else ()
    return [game.path for split in splits for game in find_games(Path(str(data)), split)]


@pytest.mark.parametrize("games", [[game.path for game in find_games(SHIPPED)], official()])
def test_every_expression_of_real_games_is_computed_as_eval_would(games: list[Path]) -> None:
    if not games:
        pytest.skip("ALFWORLD_DATA holds no games")
    found = {
        expression
        for game in games
        for expression in EXPRESSION.findall(json.loads(game.read_text())["grammar"])
    }
    assert {"o.indefinite + ' ' + o.name", "r.name or r.id", "r"} <= found
    for expression in found:
        entities = {name: mug() for name in re.findall(r"\b[a-z]\w*\b", expression)}
        assert str(evaluate(parse(expression), entities)) == str(eval(expression, entities))


# -- games ----------------------------------------------------------------------------------------

TOUCH = '{__import__(\\"os\\").system(\\"touch executed\\")}'


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("grammar", "Your task is to: ", f"Your task is to: {TOUCH} "),
        ("grammar", "You open the {r.name}.", f"You open the {TOUCH}."),
        ("grammar", '"open {r}"', '"open {__import__(str(1)).x}"'),
        ("grammar", "{r.indefinite} {r.name or r.id}", "{r.__class__.__init__.__globals__}"),
    ],
)
def test_a_game_with_python_in_it_is_refused_and_runs_nothing(
    part: str, old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = changed(tmp_path, part, old, new)
    with pytest.raises(UserError, match=f"^{re.escape(str(file))} is refused: ") as told:
        AlfworldGame(file).reset()
    assert "\n" not in str(told.value)
    assert os.listdir(tmp_path) == [file.name]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("{0.__class__}", "is no name"),
        ("x{y:>999999999}", "is no name"),
        ("x" * 1000, r"bytes long .*has room for 1000"),
    ],
)
def test_a_name_that_the_engine_would_format_or_not_hold_is_refused(
    name: str, sentence: str, tmp_path: Path
) -> None:
    ids = re.findall(r"\b(\w+_bar_\w+) - object", json.loads(SMALLEST.read_text())["pddl_problem"])
    file = changed(tmp_path, "pddl_problem", ids[0], ids[0] + name)
    with pytest.raises(UserError, match=sentence):
        AlfworldGame(file).reset()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("#look.feedback#", "#intro#"),
        ("#look.feedback#", "#look.feedback##intro#"),
        ("#look.feedback#", "[{#intro# | at(agent, l)}]"),
        ("Your task is to: ", "Your task is to: #intro#"),  # by way of another rule
    ],
)
def test_a_rule_that_expands_into_itself_is_refused(old: str, new: str, tmp_path: Path) -> None:
    file = changed(tmp_path, "grammar", old, new)
    with pytest.raises(
        UserError, match=r"is refused: .*rule '(intro|task)' expands into itself"
    ) as told:
        AlfworldGame(file).reset()
    assert "\n" not in str(told.value)


def test_a_sentence_of_too_many_expansions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MOST_EXPANSIONS", 50)
    rules = "".join(f'"x{n}": [{{"rhs": "#x{n + 1}##x{n + 1}#"}}],' for n in range(40))
    file = changed(tmp_path, "grammar", '"intro": [', rules + '"x40": [{"rhs": "."}], "intro": [')
    changed_again = json.loads(file.read_text())
    changed_again["grammar"] = changed_again["grammar"].replace("#look.feedback#", "#x0#")
    file.write_text(json.dumps(changed_again))
    with pytest.raises(UserError, match=r"is refused: a sentence .* not done after 50 expansions"):
        AlfworldGame(file).reset()


def test_a_fault_that_shows_in_play_only_is_told_as_well(tmp_path: Path) -> None:
    file = changed(tmp_path, "grammar", "You move the {o.name} to", "You move #nothing# to")
    game = AlfworldGame(file)
    game.reset()
    *plan, move = json.loads(file.read_text())["walkthrough"]
    for command in plan:
        game.step(command)
    with pytest.raises(UserError, match=r"engine rejects .*#nothing#"):
        game.step(move)
    game.close()


def test_a_refused_game_leaves_the_engine_to_the_next_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is refused"):
        AlfworldGame(changed(tmp_path, "grammar", "{o.name}", "{o.__doc__}")).reset()
    made = engine._engines
    game = AlfworldGame(SMALLEST)
    game.reset()
    assert game.step("inventory").observation == "You are not carrying anything."
    game.close()
    assert engine._engines == made


# -- the stock engine -----------------------------------------------------------------------------


def stock_engine(file: Path) -> Any:
    """TextWorld as it comes, with ALFWorld's own wrapper."""
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler

    infos = textworld.EnvInfos(won=True, admissible_commands=True)
    return textworld.start(str(file), infos, wrappers=[AlfredDemangler])


def require_equal(stock: Any, ours: Any, file: Path, *, steps: int) -> None:
    """The same texts and commands, step by step, on a random walk."""
    rng = random.Random(str(file))
    with remembered_translations({}):  # one for both: translating is most of the time
        stock.load(str(file))
        engine.load(ours, file)
        left, right = stock.reset(), ours.reset()
    for _ in range(steps):
        for key in ("feedback", "admissible_commands", "won"):
            assert left[key] == right[key]
        commands = left["admissible_commands"]
        verb = rng.choice(sorted({c.split()[0] for c in commands}))
        command = rng.choice([c for c in commands if c.split()[0] == verb])
        left, right = stock.step(command)[0], ours.step(command)[0]


def test_sentences_and_commands_are_those_of_the_stock_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))  # importing alfworld makes this folder
    stock = stock_engine(SMALLEST)
    require_equal(stock, engine.new_engine(), SMALLEST, steps=8)


SHARDS = 10


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_official_games_play_as_on_the_stock_engine(shard: int) -> None:
    games = official()[shard::SHARDS]
    if not games:
        pytest.skip("ALFWORLD_DATA holds no games")
    stock, ours = stock_engine(games[0]), engine.new_engine()
    for file in games:
        require_equal(stock, ours, file, steps=4)
