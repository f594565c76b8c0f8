"""A copy installed from the wheel works away from the checkout, and keeps to its own names."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.wheel_fixtures import wheel_path

__all__ = ["wheel_path"]


class Installed:
    """A fresh environment with the wheel in it; the other packages are the test environment's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.packages = next((home / "lib").glob("python*/site-packages"))

    def run(self, *command: str) -> str:
        """What a command of the environment prints; it has to succeed."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [self.home / "bin" / command[0], *command[1:]],
            cwd=self.home,
            env=environment | {"COLUMNS": "90"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, code: str) -> str:
        return self.run("python", "-P", "-c", code)


@pytest.fixture(scope="module")
def installed(wheel_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, installed by pip."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "-q"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--no-compile", str(wheel_path)],
        check=True,
        capture_output=True,
    )
    copy = Installed(home)
    (copy.packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return copy


def test_it_runs_from_its_own_files(installed: Installed) -> None:
    where = installed.python("import edge_router; print(edge_router.__file__)")
    assert where.startswith(str(installed.packages))
    assert "Usage: edge-router" in installed.run("edge-router", "--help")


def test_a_game_is_played(installed: Installed) -> None:
    said = installed.run("edge-router", "play", "--plain", "--max-steps", "1", "--threads", "1")
    assert "iq1_s" in said
    assert "[1]" in said


def test_the_demo_is_shown(installed: Installed) -> None:
    assert "low tier alone" in installed.run("edge-router", "demo", "--plain")


def test_training_is_explained(installed: Installed) -> None:
    assert "--train-games" in installed.run("edge-router", "train", "router", "--help")


@pytest.mark.parametrize("name", ["train", "tui"])
def test_no_general_name_is_importable_until_a_part_is_loaded(
    installed: Installed, name: str
) -> None:
    assert not (installed.packages / name).exists()
    find = f"import importlib.util, edge_router; print(importlib.util.find_spec({name!r}))"
    assert installed.python(find) == "None\n"


def test_the_app_is_found(installed: Installed) -> None:
    load = "from edge_router.parts import load_part"
    load += "; print(load_part('tui.apps.commands', extra='tui'))"
    assert str(installed.packages / "edge_router" / "_parts" / "tui") in installed.python(load)


def test_another_package_of_a_parts_name_is_not_taken_for_it(installed: Installed) -> None:
    other = installed.packages / "train.py"
    other.write_text("raise RuntimeError('this is somebody else')\n")
    try:
        load = (
            "from edge_router.parts import load_part; print(load_part('train.lm', extra='train'))"
        )
        assert "_parts" in installed.python(load)
    finally:
        other.unlink()


def test_child_processes_find_the_parts(installed: Installed) -> None:
    """Training plays in processes of their own, which multiprocessing and joblib start anew."""
    program = installed.home / "children.py"
    program.write_text(
        "import importlib, multiprocessing\n"
        "from joblib import Parallel, delayed\n"
        "from edge_router.parts import load_part\n"
        "def name(module):\n"
        "    return importlib.import_module(module).__file__\n"
        "if __name__ == '__main__':\n"
        "    load_part('train.lm', extra='train')\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.apply(name, ['train.lm']))\n"
        "    print(*Parallel(2)(delayed(name)(m) for m in ['train.lm', 'train']))\n"
    )
    assert installed.run("python", str(program)).count("_parts") == 3
