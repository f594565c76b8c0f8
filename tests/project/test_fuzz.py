"""Damaged files of every kind are read or refused; the fuzzer notices what is neither."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from edge_router.errors import UserError
from tools import fuzz
from tools.fuzz_kinds import KINDS, ROOT, Change, Kind
from tools.fuzz_mutations import mutate_bytes, mutate_json, mutate_text

IN_PROCESS = ("config", "costs", "ladder", "results", "store", "trace")  # loads no library


@pytest.mark.parametrize("name", IN_PROCESS)
def test_damaged_texts_are_read_or_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))
    kind = KINDS[name]
    whole = tmp_path / "whole"
    whole.mkdir()
    kind.make(whole)
    kind.read(whole)
    for number in range(25):
        kind.make(whole)
        kind.harm(whole, random.Random(f"fast/{number}"))
        try:
            kind.read(whole)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017
        for path in whole.iterdir():
            path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("mutate", [mutate_bytes, mutate_json, mutate_text])
def test_a_seed_makes_the_same_damage_again(mutate: Change) -> None:
    data = b'{"a": [1, 2, {"b": "some text"}], "c": null}'
    first = [mutate(data, random.Random(n)) for n in range(50)]
    assert first == [mutate(data, random.Random(n)) for n in range(50)]
    assert len(set(first)) > 25


def _fails(folder: Path) -> None:
    how = (folder / "how").read_text()
    if how == "raise":
        raise KeyError("a")
    if how == "wait":
        import time

        time.sleep(60)
    if how == "die":
        os.abort()
    if how == "refuse":
        raise UserError("no")


def test_each_way_to_fail_is_counted_as_what_it_is(tmp_path: Path) -> None:
    """The kind is put into the child by a module of its own on its path."""
    ways = ["raise", "fine", "refuse", "die", "fine", "wait", "fine"]
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'tools.fuzz_child' in sys.orig_argv:\n"
        "    from tests.project.test_fuzz import failing\n"
        "    from tools.fuzz_kinds import KINDS\n"
        "    KINDS['failing'] = failing()\n"
    )
    report = fuzz.Report(len(ways))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
        fuzz.fuzz_kind("failing", 0, 0, len(ways), 3.0, report)
    counted = report.counts["failing"]
    assert counted == {"read": 3, "refused": 1, "traceback": 1, "signal": 1, "hang": 1}
    assert [f.split(":")[0] for f in report.faults] == ["failing 0", "failing 3", "failing 5"]
    assert max(map(len, report.table().splitlines())) <= 80


def failing() -> Kind:
    """A kind whose inputs end in every way there is, by their number."""
    ways = iter(["raise", "fine", "refuse", "die", "fine", "wait", "fine"])
    first = int(sys.orig_argv[-3])
    for _ in range(first):
        next(ways)

    def harm(folder: Path, rng: random.Random) -> None:
        (folder / "how").write_text(next(ways))

    def make(folder: Path) -> None:
        (folder / "how").write_text("fine")

    return Kind(make, harm, _fails)


@pytest.mark.slow
def test_three_thousand_damaged_files_leave_no_fault() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.fuzz", "--count", "3000"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout
