"""Commands end in a sentence and a fitting exit code, whatever becomes of their streams."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest
from _pytest.mark import ParameterSet
from click.testing import CliRunner

from edge_router.cli.main import OneSentence
from tests.terminal import terminal
from tests.tiny_gguf import TINY_QWEN3, write_tiny_ladder

PROGRAM = str(Path(sys.executable).with_name("edge-router"))
ALL = "<&- >&- 2>&-"
SHORT = replace(TINY_QWEN3, name="tiny-household", prompt_style="household")
FULL = Path("/dev/full")


def slow(*values: str) -> ParameterSet:
    """Another pair of values that are each tried in a quick pair, or a longer way to the same."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A short game on a tiny ladder."""
    paths = write_tiny_ladder(tmp_path_factory.mktemp("ends"), SHORT, ("q3_k_m", "q8_0"))
    tiers = " ".join(f"--tier={name}={path}" for name, path in paths.items())
    return f"play {tiers} --split=generated --max-steps=1 --threads=1"


def run(
    command: str, *, closed: str = "", stdout: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run in a shell that closes streams first (">&-")."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" {command} {closed}', PROGRAM],
        env=os.environ | environment,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )


@pytest.mark.parametrize(
    ("options", "closed"),
    [
        *(("", ">&-"), slow("--plain", ">&-"), ("--json", ">&-")),
        *(slow("", "<&-"), slow("--plain", "<&-"), slow("--json", "<&-")),
        *(slow("", ALL), ("--plain", ALL), slow("--json", ALL)),
    ],
)
def test_a_game_is_played_with_closed_streams(play: str, options: str, closed: str) -> None:
    done = run(f"{play} {options}", closed=closed)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


def test_nothing_is_printed_into_a_file_that_took_the_number_of_a_closed_stream(
    play: str, tmp_path: Path
) -> None:
    trace = tmp_path / "t.jsonl"
    assert run(f"{play} --plain --trace={trace}", closed=">&-").returncode == 0
    lines = trace.read_text().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("{") for line in lines)


@pytest.mark.parametrize(
    ("command", "closed"),
    [
        *((command, ">&-") for command in ("games list", "models list", "--help")),
        *(("config", "<&-"), ("config", ">&-"), ("config", "2>&-")),
        *(("games list", "<&-"), ("--help", "<&-"), ("games list", "2>&-"), ("--help", "2>&-")),
        *(slow("models list", "<&-"), slow("models list", "2>&-")),
        *(slow("doctor", ">&-"), slow("doctor", "<&-"), slow("doctor", "2>&-")),
    ],
)
def test_commands_run_with_closed_streams(command: str, closed: str) -> None:
    assert run(command, closed=closed).stderr == ""


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize(
    "command",
    ["{play} --plain", slow("{play} --json"), "games list", slow("models list"),
     slow("models show household"), slow("doctor"), "config", "completion fish", "--help",
     "--version"],
)  # fmt: skip
def test_a_full_disk_is_reported_in_one_sentence(play: str, command: str) -> None:
    with FULL.open("wb") as full:
        done = run(command.replace("{play}", play), stdout=full.fileno())
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("edge-router: ")]
    assert said == ["edge-router: cannot write: No space left on device"]
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("command", ["{play} --plain", "games list", slow("doctor"), "config"])
def test_a_reader_that_is_gone_ends_a_command_quietly(play: str, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(command.replace("{play}", play), stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("encoding", "command"),
    [
        *(("ascii", "{play} --plain"), slow("ascii", "models list"), slow("ascii", "doctor")),
        *(("ascii", "config"), ("latin-1", "config")),  # latin-1 lacks fewer
        *(slow("latin-1", "{play} --plain"), slow("latin-1", "models list")),
        slow("latin-1", "doctor"),
    ],
)
def test_an_encoding_that_lacks_characters_is_survived(
    play: str, encoding: str, command: str, tmp_path: Path
) -> None:
    home = tmp_path / "h\u00f6m\u2588"  # shown by config and doctor
    done = run(
        command.replace("{play}", play), PYTHONIOENCODING=encoding, EDGE_ROUTER_HOME=str(home)
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_that_lacks_the_apps_characters_gets_the_printed_run(
    play: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    with terminal(*play.split(), cwd=tmp_path) as screen:
        assert screen.wait() == 0
    shown = screen.output.decode("latin-1")
    assert "needs a terminal that shows UTF-8" in shown
    assert "in 1 step" in shown
    assert "\\u2" not in shown
    assert "\x1b[?1049h" not in shown  # the app's other screen


# -- the last net -------------------------------------------------------------------------------


def failing(error: Callable[[], BaseException]) -> click.Group:
    group = OneSentence("edge-router")

    @group.command()
    def fail() -> None:
        raise error()

    return group


def test_what_nobody_foresaw_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_ROUTER_DEBUG", raising=False)
    result = CliRunner().invoke(failing(lambda: ValueError("odd\nthing")), ["fail"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "edge-router hit an error it did not expect: ValueError: odd thing; run again with "
        "EDGE_ROUTER_DEBUG=1 for the traceback and report it\n"
    )


def test_the_traceback_is_shown_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ROUTER_DEBUG", "1")
    result = CliRunner().invoke(failing(lambda: ValueError("odd")), ["fail"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "raise error()" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (lambda: OSError(28, "No space left on device", "a.bin"), 2, "a.bin: No space left"),
        (lambda: KeyboardInterrupt(), 130, "interrupted"),
        (lambda: BrokenPipeError(32, "Broken pipe"), 1, ""),
        (lambda: FileNotFoundError(2, "No such file", "x"), 1, "did not expect: FileNotFound"),
    ],
)
def test_what_the_system_refuses_is_reported_as_such(
    error: Callable[[], BaseException], code: int, says: str
) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])
    assert result.exit_code == code
    assert says in result.stderr
