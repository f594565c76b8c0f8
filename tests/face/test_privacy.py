"""Nothing is sent and nothing about the user is recorded."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_router.privacy import SWITCHES

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = str(Path(sys.executable).with_name("edge-router"))
SENDERS = {"onnxruntime": "edge_router/router/onnx_file.py"}


def in_an_empty_home(home: Path, command: list[str], **environment: str) -> list[Path]:
    """The files that `command` leaves in a home that was empty."""
    home.mkdir()
    # XDG_... would lead elsewhere, and onnxruntime keeps still where CI is set.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("XDG_") and k != "CI"}
    for name in (*SWITCHES, "EDGE_ROUTER_HOME", "ALFWORLD_DATA"):
        kept.pop(name, None)
    done = subprocess.run(
        command,
        env=kept | {"HOME": str(home)} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = sorted(file.relative_to(home) for file in home.rglob("*") if file.is_file())
    # What edge-router itself remembers of files that it checked is its own, and stays here.
    return [file for file in files if file.parts[:2] != (".cache", "edge-router")]


@pytest.mark.slow
def test_a_run_with_the_default_router_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    play = [PROGRAM, "play", "--plain", "--max-steps=1", "--threads=1"]
    assert in_an_empty_home(tmp_path / "home", play) == []


def test_a_setting_of_the_users_does_not_switch_it_on_again(tmp_path: Path) -> None:
    play = [PROGRAM, "play", "--plain", "--max-steps=1", "--threads=1"]
    found = in_an_empty_home(tmp_path / "home", play, ORT_DISABLE_TELEMETRY="0")
    assert found == []


def test_onnxruntime_by_itself_would_record_something(tmp_path: Path) -> None:
    """Else the tests above prove nothing."""
    router = next((ROOT / "models").glob("*/router.onnx"))
    code = f"import onnxruntime; onnxruntime.InferenceSession({str(router)!r})"
    found = in_an_empty_home(tmp_path / "home", [sys.executable, "-c", code])
    if not found:
        pytest.skip("this build of onnxruntime records nothing")
    assert any("onnxruntime" in str(file) for file in found)


@pytest.mark.parametrize(
    "package", ["edge_router", "train", "tui.apps.commands", "tools", "tests.conftest"]
)
def test_telemetry_is_off_before_anything_of_ours_runs(package: str) -> None:
    clean = {k: v for k, v in os.environ.items() if k not in SWITCHES}
    code = f"import {package}, os; print(*[os.environ.get(s) for s in {SWITCHES!r}])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1"] * len(SWITCHES)


def test_onnxruntime_is_imported_in_one_place() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for sender, place in SENDERS.items():
        importers = [
            name
            for name in listed.stdout.splitlines()
            if sender in (text := (ROOT / name).read_text("utf-8"))
            and sender in imported(ast.parse(text))
        ]
        assert importers == [place]


def imported(tree: ast.AST) -> set[str]:
    """The top-level names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names
