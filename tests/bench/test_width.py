"""Benchmarks and lists keep to 80 columns; the number of threads follows the machine."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from edge_router.cli.main import main
from edge_router.engine.ladder import Ladder
from edge_router.engine.machine import physical_cores, processors
from edge_router.engine.tier import TierSpec
from edge_router.engine.tier_spec import ModelRuntime
from edge_router.evaluate.jobs import LadderShelf
from edge_router.results.file import read_results
from edge_router.results.outputs import show
from tests.kept_process import kept_process
from tests.tiny_gguf import TINY_QWEN3, write_tiny_ladder

__all__ = ["kept_process"]  # a fixture

SHORT = replace(TINY_QWEN3, name="tiny-household", prompt_style="household")
GAMES = ["--split=generated", "--games=1", "--max-steps=1", "--ctx=1024"]
QUICK = ["-p", "8", "-n", "4", "-r", "2"]
MEASURED = {
    "tiers": ["bench", "tiers", *GAMES],
    "policies": ["bench", "policies", *GAMES, "--routers=low,high,expert"],
    "speed": ["bench", "speed", *QUICK, "--spans=4,8"],
    "threads": ["bench", "speed", *QUICK, "-t", f"1,{processors()}"],
    "calibration": ["calibrate", "-r", "2"],
}


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[TierSpec]:
    paths = write_tiny_ladder(tmp_path_factory.mktemp("tiny"), SHORT, ("q4_k_m", "q8_0"))
    return [TierSpec(f"the-first-attempt-at-{name}", path) for name, path in paths.items()]


def printed(arguments: list[str]) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def assert_fits(text: str, wide: str) -> None:
    """No line of `text` is wider than 80 columns, and its words are those of `wide`.

    A path that takes more than a line may go on after a slash.
    """
    assert [line for line in text.split("\n") if cell_len(line) > 80] == []
    whole = {part for word in wide.split() for part in (word, *re.findall("[^/]+/?", word))}
    assert [w for w in text.split() if w not in whole and set(w) != {"\u2500"}] == []


SLOW = ("speed",)  # threads has the same tables


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow if k in SLOW else ()) for k in MEASURED]
)
def test_measurements_are_reported_in_80_columns(
    kind: str,
    specs: list[TierSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if kind == "threads" and processors() < 2:
        pytest.skip("one processor has no numbers of threads to compare")
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))
    tiers = [f"--tier={s.name}={s.path}" for s in specs]
    printed([*MEASURED[kind], *tiers, f"--json={tmp_path / 'r.json'}"])
    data = read_results(tmp_path / "r.json")
    assert data["kind"] == kind
    for full in (False, True):
        shown = []
        for width in ("80", "1000"):
            monkeypatch.setenv("COLUMNS", width)
            show(data, full=full)
            shown.append(capsys.readouterr().out)
        assert_fits(*shown)
    follows = kind not in ("speed", "threads")
    assert (data["machine"]["threads"] == 0) == follows
    assert ("threads that follow the machine" in " ".join(shown[0].split())) == follows
    if kind == "threads":
        rows = [(r["tier"], r["threads"]) for r in data["tables"]["threads"]]
        assert rows == [(s.name, n) for s in specs for n in (1, processors())]


@pytest.mark.parametrize("command", [["doctor"], ["games", "list"], ["models", "list"]])
def test_lists_are_reported_in_80_columns(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", "/a-home")
    # The advice about a crowded machine must not come in one of the two only.
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 99.0, 99.0), raising=False)
    shown = []
    for width in ("80", "1000"):
        monkeypatch.setenv("COLUMNS", width)
        shown.append(printed(command))
    assert_fits(shown[0], f"{shown[1]} {' '.join(re.findall('[0-9.]+', shown[0]))}")  # load, memory


def test_the_command_that_shows_a_game_again_fits_and_can_be_pasted(
    specs: list[TierSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    tiers = [f"--tier={s.name}={s.path}" for s in specs]
    policies = [*MEASURED["policies"], *tiers, "--threads=1"]
    text = printed([*policies, "--store=s.sqlite", "--traces=traces"])
    assert max(map(cell_len, text.split("\n"))) <= 80
    command = shlex.split(text[text.index("edge-router replay") :].replace("\\\n", ""))
    assert command[:2] == ["edge-router", "replay"]
    assert all(Path(trace).is_file() for trace in command[2:])
    assert printed([*command[1:], "--plain"])


def test_games_that_are_played_at_once_share_the_cores(specs: list[TierSpec]) -> None:
    ladder = LadderShelf().ladder(Ladder, tuple(specs), "handoff", ModelRuntime(ctx=256), jobs=2)
    with ladder:
        assert ladder.tiers[0].context.n_threads == max(1, physical_cores() // 2)
