"""The library says in one line what it is, and in one sentence why it cannot be loaded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_router.engine.library import build_line, compiled_with, features
from edge_router.results.machine import machine_details

PROGRAM = str(Path(sys.executable).with_name("edge-router"))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_line_says_what_is_installed() -> None:
    line = build_line()
    assert re.fullmatch(
        r"edge-router [\w.]+, llama-cpp-python [\w.]+, llama\.cpp [\w.-]+(?: \(commit [\w-]+\))?, "
        r"compiled with \w+(?:, \w+)*",
        line,
    )
    assert run("--version").stdout == f"{line}\n"
    assert machine_details(1)["build"] == line


def test_only_what_is_switched_on_is_named() -> None:
    off = [name for name, value in features().items() if value == "0"]
    assert not set(off) & set(compiled_with())
    assert ("OpenMP" in compiled_with()) == (features().get("OPENMP") == "1")


@pytest.fixture(params=["broken", "absent"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where LLAMA_CPP_LIB_PATH leads: to a library that is none, or to nothing."""
    if request.param == "broken":
        for name in ("libllama.so", "libllama.dylib"):
            (tmp_path / name).write_text("broken")
    return tmp_path


def test_a_library_that_cannot_be_loaded_is_reported_in_one_sentence(folder: Path) -> None:
    done = run("play", "--plain", LLAMA_CPP_LIB_PATH=str(folder))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("edge-router: llama.cpp cannot be loaded (")
    assert f"LLAMA_CPP_LIB_PATH is set to '{folder}': unset it" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "folder", ["broken", pytest.param("absent", marks=pytest.mark.slow)], indirect=True
)
def test_the_doctor_goes_on_without_the_library(folder: Path) -> None:
    done = run("doctor", "--json", LLAMA_CPP_LIB_PATH=str(folder))
    assert (done.returncode, done.stderr) == (1, "")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert findings["build"]["stops"]
    assert "llama.cpp cannot be loaded" in findings["build"]["advice"]
    assert "games generated" in findings


def test_the_version_is_reported_without_the_library(folder: Path) -> None:
    done = run("--version", LLAMA_CPP_LIB_PATH=str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"edge-router [\w.]+, .*cannot be loaded", done.stdout)
