"""The import rules hold, and asking for help stays quick because nothing heavy is loaded."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("llama_cpp", "onnxruntime", "textworld", "alfworld", "torch", "transformers", "textual")


def modules_after(code: str) -> set[str]:
    """The top-level modules loaded in a fresh interpreter that ran `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.splitlines()}


def test_lower_layers_do_not_import_higher_ones() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_help_of_every_command_loads_nothing_heavy() -> None:
    loaded = modules_after(
        "from tests.commands import command_paths, run_help\n"
        "for path in command_paths(): run_help(path)"
    )
    assert "edge_router" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("module", ["edge_router.engine.llama", "edge_router.tasks.alfworld"])
def test_a_module_with_a_heavy_library_loads_it_only_when_used(module: str) -> None:
    loaded = modules_after(f"import {module}")
    assert "edge_router" in loaded
    assert not loaded & set(HEAVY)


def test_the_app_loads_no_engine_and_no_game_until_it_plays() -> None:
    loaded = modules_after("import tui.apps.commands")
    assert "textual" in loaded
    assert not loaded & (set(HEAVY) - {"textual"})


def test_help_is_asked_for_in_a_fresh_process(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asserted of the time: it is printed, for whoever runs this with -s."""
    program = Path(sys.executable).with_name("edge-router")
    times = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - started)
    assert "Usage: edge-router" in done.stdout
    with capsys.disabled():
        print(f"\nedge-router --help takes {1000 * min(times):.0f} ms")
