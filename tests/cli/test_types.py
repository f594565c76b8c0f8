"""~ in options is expanded wherever a path can begin, and names are completed."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_router.cli.main import main
from edge_router.cli.types import FILE, Spelled, UserPath, expanded
from edge_router.errors import UserError
from edge_router.tasks.alfworld.game_files import SHIPPED
from tests.commands import parameters


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("~/x", "{}/x"),
        ("~", "{}"),
        ("a=~/x.gguf", "a={}/x.gguf"),
        ("onnx:~/r.onnx", "onnx:{}/r.onnx"),
        (
            "low,retry:onnx:~/r.onnx@0.3,onnx:~/s.onnx",
            "low,retry:onnx:{}/r.onnx@0.3,onnx:{}/s.onnx",
        ),
        ("x/~/y", "x/~/y"),
        ("file~1", "file~1"),
        ("~nobody-has-this-name/x", "~nobody-has-this-name/x"),
        ("", ""),
    ],
)
def test_a_tilde_is_expanded_where_a_path_begins(home: Path, text: str, wanted: str) -> None:
    assert expanded(text) == wanted.replace("{}", str(home))


def test_a_tilde_without_a_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", _nobody)
    with pytest.raises(UserError, match="no home folder"):
        expanded("onnx:~/r.onnx")


def _nobody(uid: int) -> pwd.struct_passwd:
    raise KeyError(uid)


def test_a_path_option_gives_a_path(home: Path) -> None:
    assert FILE.convert("~/a,~b", None, None) == home / "a,~b"


def test_every_option_that_names_a_path_expands_it() -> None:
    """click's own path type leaves ~ alone, so no command may use it."""
    params = list(parameters())
    assert [p.name for p in params if type(p.type) is click.Path] == []
    words = ("path", "file", "folder", "gguf")
    named = [p for p in params if isinstance(p, click.Option) and p.help]
    matching = [p for p in named if any(w in f"{p.metavar} {p.help}".lower() for w in words)]
    takes_text = [p for p in matching if not p.is_flag]
    others = [p.name for p in takes_text if not isinstance(p.type, UserPath | Spelled)]
    assert others == ["cores", "files", "revision"]  # a "profile", and what a repository holds


def test_an_empty_text_is_never_taken_for_an_option_left_out() -> None:
    """Plain text would let "$UNSET" of a script through as if nothing were asked for."""
    one = [p for p in parameters() if p.nargs == 1]
    plain = [p.name for p in one if type(p.type) is type(click.STRING)]
    assert plain == ["threads"]  # whose callback reads numbers


@pytest.mark.parametrize(
    "arguments",
    [
        *(["bench", "policies", f"{option}="] for option in ("--kv", "--against", "--dial")),
        *(["bench", "policies", f"{option}="] for option in ("--oracle", "--traces", "--store")),
        *(["bench", "policies", f"{option}="] for option in ("--split", "--folder", "--dask")),
        *(["bench", "speed", f"{option}="] for option in ("--shape", "--spans", "--json")),
        *(["advise", f"{option}="] for option in ("--model", "--shape", "--precisions")),
        *(["convert", "x", f"{option}="] for option in ("--out", "--prompt", "--imatrix")),
        *(["serve", f"{option}="] for option in ("--host", "--api-key")),
        ["models", "show", ""],
        ["replay", ""],
        ["train", "lm", "--base="],
        ["play", "--router= "],
    ],
)
def test_an_empty_text_is_refused_in_a_sentence(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "it is empty: give a value" in result.stderr


def test_games_behind_an_equals_sign_are_found_in_the_home(home: Path) -> None:
    (home / "games").symlink_to(SHIPPED)
    result = CliRunner().invoke(main, ["games", "list", "--games=~/games"])
    assert result.exit_code == 0, result.output


def completions(*words: str) -> list[str]:
    """What bash is offered for the last of `words`, asked as bash asks."""
    done = subprocess.run(
        [Path(sys.executable).with_name("edge-router")],
        env=os.environ
        | {
            "_EDGE_ROUTER_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("edge-router", *words)),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pl"], "play"),
        (["play", "--ma"], "--max-steps"),
        (["play", "--model", "house"], "household"),
        (["play", "--router", "en"], "entropy:"),
        (["play", "--split", "valid_u"], "valid_unseen"),
        (["play", "--task", "al"], "alfworld"),
        (["play", "--game", "ran"], "random"),
        (["play", "--game", "look_at"], "look_at_obj_in_light"),
        (["models", "pull", "qwen3-0"], "qwen3-0.6b"),
        (["train", "router", "--model", "house"], "household"),
    ],
)
def test_a_shell_completes_names(words: list[str], offered: str) -> None:
    assert any(line.startswith(offered) for line in completions(*words))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_calls_the_command_back(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0, result.output
    assert f"_EDGE_ROUTER_COMPLETE={shell}_complete" in result.stdout
    assert result.stderr == ""
