"""The wheel holds all that an installed copy needs, and the set-up scripts do what they promise."""

from __future__ import annotations

import io
import platform
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.wheel_fixtures import wheel_path
from tools import freeze, install_llama

__all__ = ["wheel_path"]

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(wheel_path: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(wheel_path) as opened:
        yield opened


def source_files(folder: str) -> set[str]:
    """The files of a folder that git knows, relative to the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(listed.stdout.splitlines())


def test_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    assert source_files("edge_router") <= set(wheel.namelist())


def test_wheel_holds_the_embedded_model(wheel: zipfile.ZipFile) -> None:
    models = source_files("models")
    assert any(name.endswith(".gguf") for name in models)
    packaged = {f"edge_router/_models/{name.removeprefix('models/')}" for name in models}
    assert packaged <= set(wheel.namelist())


def test_wheel_holds_ten_games_of_each_task_type(wheel: zipfile.ZipFile) -> None:
    games = [
        name
        for name in wheel.namelist()
        if name.startswith("edge_router/tasks/household/games/") and name.endswith("game.tw-pddl")
    ]
    kinds: dict[str, int] = {}
    for name in games:
        (kind,) = re.findall(r"/(pick_[a-z_]+|look_at_obj_in_light)-", name)
        kinds[kind] = kinds.get(kind, 0) + 1
    assert len(kinds) == 6
    assert min(kinds.values()) >= 10


@pytest.mark.slow
def test_wheel_built_from_the_source_archive_is_the_same(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    """`python -m build` goes that way: the archive must lack nothing."""
    hatch = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run([*hatch, "-t", "sdist"], cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    source = tmp_path / archive.name.removesuffix(".tar.gz")
    subprocess.run([*hatch, "-t", "wheel"], cwd=source, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as again:
        assert set(again.namelist()) == set(wheel.namelist())
    assert {"Makefile", "mkdocs.yml", "CONTRIBUTING.md"} <= {f.name for f in source.iterdir()}


def test_wheel_names_the_console_script(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    assert b"edge-router = edge_router.cli:main" in wheel.read(entry_points)


def test_wheel_puts_one_name_into_site_packages_and_no_byte_code(wheel: zipfile.ZipFile) -> None:
    """`train`, `tui` and `tests` are names that another package may have."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"edge_router"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name]


def test_wheel_holds_the_parts_below_the_package(wheel: zipfile.ZipFile) -> None:
    parts = source_files("train") | source_files("tui")
    assert {f"edge_router/_parts/{name}" for name in parts} <= set(wheel.namelist())


def test_a_run_depends_on_no_training_library() -> None:
    needed = freeze.closure("edge-router", frozenset())
    assert "llama-cpp-python" in needed
    assert not {"torch", "transformers", "onnx", "matplotlib"} & needed.keys()


def test_constraints_pin_everything_that_the_tests_install() -> None:
    assert freeze.closure("edge-router", frozenset(freeze.TESTED)).keys() <= pinned().keys()


def test_constraints_pin_what_every_extra_asks_for() -> None:
    """Also those that the tests do without, such as the documentation's."""
    extras = PROJECT["optional-dependencies"]
    asked = {canonicalize_name(Requirement(x).name) for name in extras for x in extras[name]}
    assert asked <= pinned().keys()
    assert set(freeze.EXTRAS) <= set(extras)


def pinned() -> dict[str, SpecifierSet]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = map(Requirement, (line for line in lines if "==" in line))
    return {canonicalize_name(pin.name): pin.specifier for pin in pins}


def test_the_tests_run_on_the_pinned_versions() -> None:
    pins = pinned()
    wrong = {
        name: version
        for name, version in freeze.closure("edge-router", frozenset(freeze.TESTED)).items()
        if version not in pins[name]
    }
    assert not wrong


def test_version_is_reported_once() -> None:
    import edge_router

    assert "version" in PROJECT["dynamic"]
    assert metadata.version("edge-router") == edge_router.__version__


def test_build_progress_is_a_line_every_ten_percent() -> None:
    out = io.StringIO()
    progress = install_llama.BuildProgress(out)
    compiler = (f"  [{n}/140] /usr/bin/g++ -DGGML_BUILD -c x.cpp\n" for n in range(1, 141))
    log = io.StringIO()
    tail = install_llama.stream(compiler, log, progress)
    shown = out.getvalue().splitlines()
    assert len(shown) == 11
    assert "140/140 files, 100 %" in shown[-1]
    assert log.getvalue().count("\n") == 140
    assert tail[-1].startswith("  [140/140]")


def test_build_time_is_reported_before_the_build_starts() -> None:
    out = io.StringIO()
    progress = install_llama.BuildProgress(out)
    progress.line("Collecting llama-cpp-python==0.3.36\n")
    assert out.getvalue() == ""
    progress.line("Building wheels for collected packages: llama-cpp-python\n")
    assert install_llama.BUILD_TIME in out.getvalue()


def test_cmake_flags_of_the_user_come_last_so_that_they_win() -> None:
    built = install_llama.build_environment({"CMAKE_ARGS": "-DGGML_OPENMP=OFF"})
    assert built["CMAKE_ARGS"].split() == [*install_llama.FLAGS, "-DGGML_OPENMP=OFF"]


def test_failed_install_shows_the_end_of_the_log_and_where_it_lies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "build.log"
    missing = tmp_path / "no-such.whl"
    with pytest.raises(SystemExit) as stopped:
        install_llama.run_pip(["install", "-v", "--no-index", str(missing)], log)
    said = capsys.readouterr().out
    assert stopped.value.code == 1
    assert "no-such.whl" in said
    assert str(log) in said
    assert "no-such.whl" in log.read_text("utf-8")


def test_only_the_end_of_a_long_log_is_shown() -> None:
    progress = install_llama.BuildProgress(io.StringIO())
    tail = install_llama.stream((f"line {n}\n" for n in range(100)), io.StringIO(), progress)
    assert list(tail) == [f"line {n}\n" for n in range(100 - install_llama.TAIL, 100)]


def test_builds_with_other_flags_are_kept_apart(tmp_path: Path) -> None:
    plain = {"XDG_CACHE_HOME": str(tmp_path), "CMAKE_ARGS": "-DGGML_OPENMP=OFF"}
    cuda = plain | {"CMAKE_ARGS": "-DGGML_CUDA=ON"}
    folders = {
        install_llama.wheel_folder(version, flags)
        for version in ("0.3.36", "0.3.37")
        for flags in (plain, cuda, plain | {"CFLAGS": "-O1"}, dict(plain))
    }
    assert len(folders) == 6
    assert all(tmp_path in folder.parents for folder in folders)


def test_a_kept_wheel_is_used_without_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler: a build would be refused
    kept = tmp_path / "x.whl"
    kept.touch()
    assert install_llama.wheel_in(tmp_path, "1", "constraints.txt", tmp_path / "log") == kept


def test_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="no C\\+\\+ compiler was found"):
        install_llama.require_compiler({})


@pytest.mark.parametrize("python", ["no-such-python", "false"])
def test_make_refuses_a_python_that_is_too_old(python: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", f"PYTHON={python}", f"VENV={tmp_path}/venv", "play"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert f"needs Python 3.11 or newer and '{python}' is not" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_llama_cpp_is_built_without_amx_where_the_compiler_knows_it(tmp_path: Path) -> None:
    """An AMX build by GCC 12.2 dies in its first decode."""
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\nexit 0\n")
    compiler.chmod(0o755)
    built = install_llama.build_environment({"CC": str(compiler), "CFLAGS": "-g"})
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    assert built["CFLAGS"] == (f"-g {install_llama.NO_AMX}" if x86 else "-g")
    compiler.write_text("#!/bin/sh\nexit 1\n")  # a compiler that does not know the flag
    assert install_llama.build_environment({"CC": str(compiler), "CFLAGS": "-g"})["CFLAGS"] == "-g"
