"""A service or a cron job may run under a user id that has no home: what needs none works."""

from __future__ import annotations

import json
import pwd
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_router.cli.main import main
from edge_router.files import folders
from edge_router.files.folders import NoHomeError, if_any
from edge_router.ladders.resolve import find_ladder


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No HOME, no XDG_... and a user id that passwd does not know."""
    for name in ("HOME", "EDGE_ROUTER_HOME", "ALFWORLD_DATA", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
                 "XDG_CACHE_HOME"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize(
    "command",
    ["models list", "models show household", "games list", "config", "completion zsh", "--version"],
)
def test_what_needs_no_home_works_without_one(command: str) -> None:
    result = run(*command.split())
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout


@pytest.mark.usefixtures("homeless")
def test_the_embedded_model_is_played_without_a_home() -> None:
    result = run("play", "--plain", "--max-steps=1", "--threads=1", "--router=low")
    assert result.exit_code == 0, result.output
    assert "in 1 step" in result.stdout


@pytest.mark.usefixtures("homeless")
def test_the_doctor_says_that_there_is_no_home() -> None:
    result = run("doctor", "--json")
    advice = {f["what"]: f["advice"] for f in json.loads(result.stdout)}
    assert "set EDGE_ROUTER_HOME" in advice["data folder"]
    assert "set EDGE_ROUTER_HOME" in advice["cache folder"]


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize(
    "command",
    ["bench policies --games 1", "bench speed --shape qwen3-0.6b", "models rm x --yes",
     "models pull qwen3-0.6b", "games list --split valid_seen"],
)  # fmt: skip
def test_what_needs_a_home_says_so_in_one_sentence(command: str) -> None:
    result = run(*command.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("edge-router: ")
    assert "set EDGE_ROUTER_HOME" in result.stderr or "ALFWORLD_DATA" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("place", ["config_folder", "data_folder", "cache_folder"])
def test_no_place_is_made_up_where_there_is_no_home(place: str) -> None:
    folder = getattr(folders, place)
    assert if_any(folder) is None
    with pytest.raises(NoHomeError, match="EDGE_ROUTER_HOME"):
        folder()


def test_an_empty_edge_router_home_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = folders.data_folder()
    monkeypatch.setenv("EDGE_ROUTER_HOME", "")
    assert folders.data_folder() == usual


@pytest.mark.parametrize("command", ["models list", "play --plain", "bench policies --games 1"])
def test_an_edge_router_home_that_is_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "file"))
    result = run(*command.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"EDGE_ROUTER_HOME is set to {tmp_path / 'file'}, which is a file" in result.stderr


def test_an_edge_router_home_that_cannot_be_made_is_reported_when_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "file" / "below"))
    assert find_ladder("household").name == "household"
    result = run("bench", "policies", "--games", "1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"cannot be made: {tmp_path / 'file'} is a file" in result.stderr
