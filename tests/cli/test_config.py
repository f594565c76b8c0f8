"""config.toml gives options their defaults; the environment and the command line win over it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_router.agent.trace import read_trace
from edge_router.cli.config import FILE
from edge_router.cli.main import main
from tests.tiny_gguf import TINY_QWEN3, write_tiny_ladder

SHORT = replace(TINY_QWEN3, name="tiny-household", prompt_style="household")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where config.toml is looked for."""
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path))
    return tmp_path / FILE


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def settings(*command: str) -> dict[str, tuple[object, str]]:
    """Option -> (value, source), as `edge-router config` tells."""
    result = run("config", *command, "--json")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return {f"{r['command']} {r['option']}": (r["value"], r["source"]) for r in rows}


def test_every_value_is_reported_with_its_source(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('[play]\nrouter = "high"\nseed = 3\n[bench.policies]\njobs = 2\n')
    monkeypatch.setenv("EDGE_ROUTER_PLAY_SEED", "4")
    found = settings()
    assert found["play router"] == ("high", "file")
    assert found["play seed"] == (4, "environment")
    assert found["play max-steps"] == (50, "default")
    assert found["play kv"] == (None, "default")  # the ladder says
    assert found["play threads"] == (None, "default")
    assert found["bench policies jobs"] == (2, "file")
    assert found["games generate out"] == (None, "default")
    assert set(settings("bench", "policies")) == {
        k for k in found if k.startswith("bench policies")
    }


def test_what_is_shown_for_people_can_be_put_into_the_file(file: Path) -> None:
    shown = run("config").stdout
    file.write_text(shown)
    assert str(file) in shown
    assert run("config").exit_code == 0
    assert settings()["play max-steps"] == (50, "file")


def test_a_run_takes_its_defaults_from_the_file(file: Path, tmp_path: Path) -> None:
    paths = write_tiny_ladder(tmp_path, SHORT, ("q3_k_m", "q8_0"))
    tiers = [f"{name}={path}" for name, path in paths.items()]
    trace = tmp_path / "t.jsonl"
    file.write_text(
        f'[play]\ntier = {json.dumps(tiers)}\nmax-steps = 1\nrouter = "high"\nseed = 7\n'
        f'threads = 1\nsplit = "generated"\ntrace = {json.dumps(str(trace))}\n'
    )
    assert run("play", "--seed=5").exit_code == 0
    played = read_trace(trace).started
    assert (played.router, played.max_steps, played.seed) == ("high", 1, 5)
    assert [t.name for t in played.tiers] == ["q3_k_m", "q8_0"]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('model = "household"', ["--tier=a=absent.gguf"]),
        ('tier = ["a=b.gguf"]', ["--model=absent.gguf"]),
        ("budget = 0.1", ["--dial=0.3", "--model=absent.gguf"]),
        ('split = "valid_seen"', ["--games=absent.gguf"]),
    ],
)
def test_the_command_line_wins_over_an_option_that_excludes_it(
    file: Path, text: str, arguments: list[str]
) -> None:
    file.write_text(f"[play]\n{text}\n")
    result = run("play", *arguments)
    assert "exclude each other" not in result.stderr
    assert "absent.gguf" in result.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[play]\nruter = 'x'", "[play] has no option 'ruter' (did you mean 'router'?)"),
        ("[paly]", "there is no command 'paly' (did you mean 'play'?)"),
        ("[bench]\njobs = 3", "there is no command 'bench.jobs'"),
        ("play = 3", "write its options below [play]"),
        ("[play]\nmax-steps = 0", "[play] max-steps = 0: 0 is not in the range"),
        ("[play]\nmax-steps = 2.5", "write a whole number"),
        ("[play]\nplain = 1", "write true or false"),
        ("[play]\nmax-steps = true", "write a value"),
        ("[play]\ntier = 'a=b'", "write a list"),
        ("[play]\nrouter = ['a']", "write one value"),
        ("[play]\nrouter = 3", "is not a text"),
        ("[bench.speed]\njson = 3", "write a text"),
        ("= what", "cannot be read as settings"),
        ("\xff", "cannot be read as settings"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(file: Path, text: str, says: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    result = run("games", "list")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"edge-router: {file}")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_help_and_version_do_not_read_the_file(file: Path) -> None:
    file.write_text("= what")
    assert run("--help").exit_code == 0
    assert run("--version").exit_code == 0


def test_a_command_that_is_not_there_has_no_settings(file: Path) -> None:
    result = run("config", "nonesuch")
    assert result.exit_code == 2
    assert "there is no command 'nonesuch'" in result.stderr
