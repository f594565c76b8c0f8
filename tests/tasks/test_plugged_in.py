"""A task that comes from outside is played by its name, or by the code that makes it."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

import edge_router
from edge_router.cli.main import main
from edge_router.errors import UserError
from edge_router.tasks import registry
from edge_router.work.processes import python_module

PAGE = Path(__file__).parents[2] / "docs" / "your-own-task.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the guide's module and one game; what it registers is forgotten again."""
    found = re.search(r"^```python\n(# guess.py\n.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert found
    (tmp_path / "guess.py").write_text(found[1])
    (tmp_path / "numbers").mkdir()
    (tmp_path / "numbers" / "seven.txt").write_text("7\n")
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    monkeypatch.setenv(registry._NAMED, "")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_guides_task_is_short(folder: Path) -> None:
    lines = (folder / "guess.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) < 55


def test_the_guides_task_is_played_by_the_command(folder: Path) -> None:
    command = python_module("edge_router.cli", "play", "--task", "guess:GuessTask", "--plain")
    done = subprocess.run(
        [*command, "--constrain", "--max-steps", "3", "--threads", "1", "--router", "low"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "guess a number from 0 to 9." in done.stdout
    assert re.search(r"> \d", done.stdout)


@pytest.mark.parametrize(
    "command",
    [
        ["play", "--game", "random", "--games"],
        ["play", "--games"],
        ["games", "list", "--games"],
        ["bench", "policies", "--routers", "low", "--folder"],
    ],
    ids=" ".join,
)
def test_a_folder_without_games_is_one_sentence(folder: Path, command: list[str]) -> None:
    """A task of one's own returns what it finds, and that may be nothing."""
    (folder / "empty").mkdir()
    done = CliRunner().invoke(main, [*command, "empty", "--task", "guess:GuessTask"])
    said = "edge-router: there are no games of guess in empty\n"
    assert (done.exit_code, done.output) == (2, said)


def test_an_object_is_played_by_the_library(folder: Path) -> None:
    made = __import__("guess").GuessTask()
    end = edge_router.play(made, router="high", max_steps=2)
    assert end.steps_by_tier["q8_0"] == end.steps


def test_processes_that_are_started_later_know_it(folder: Path) -> None:
    assert registry.add_task("guess:GuessTask") == "guess"
    del registry._tasks["guess"]  # as in a new process, which has the variable alone
    assert registry.find_task("guess").name == "guess"


def test_a_package_offers_it_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = {"guess": EntryPoint("guess", "guess:GuessTask", registry.GROUP)}
    monkeypatch.setattr(registry, "_offered", lambda: offered)
    assert "guess" in registry.task_names()
    assert registry.find_task("guess").splits == ("here",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere:Task", r"No module named 'nowhere' \(is nowhere installed, or on PYTHONPATH\?\)"),
        ("guess:Nobody", "has no attribute 'Nobody'"),
        ("guess:GuessGame", "missing 1 required positional argument"),
        ("guess:Plain", "makes no task: it has no splits, styles"),
        ("edge_router.tasks.alfworld.task:", "gives no task"),
    ],
)
def test_what_makes_no_task_is_told(folder: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        registry.add_task(text)


def test_a_name_that_is_taken_stays_whose_it_is(folder: Path) -> None:
    (folder / "other.py").write_text(
        "import guess\nclass Mine(guess.GuessTask):\n    name = 'alfworld'\n"
    )
    with pytest.raises(UserError, match="there is one of that name"):
        registry.add_task("other:Mine")


def test_a_file_cannot_name_code(folder: Path) -> None:
    """`find_task` is asked with names out of traces and results."""
    (folder / "trap.py").write_text("raise SystemExit('this code was run')\n")
    with pytest.raises(UserError, match="there is no task 'trap:Task'"):
        registry.find_task("trap:Task")
