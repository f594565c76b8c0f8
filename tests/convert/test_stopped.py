"""`edge-router convert` when the disk is full, and what a stopped run leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from edge_router.bench.synthetic import SHAPES
from edge_router.convert.f16 import write_f16
from edge_router.convert.source import CheckpointSource, open_source
from edge_router.convert.tiers import quantise_tier
from edge_router.errors import UserError
from edge_router.files.whole import require_space
from tests.checkpoints import write_checkpoint
from tests.conversions import checkpoint, files, home, refused, run
from tests.tiny_gguf import TINY_QWEN3, write_tiny

__all__ = ["checkpoint", "home"]  # fixtures


# -- a full disk ------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode != 0:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_too_little_room_is_reported_before_anything_is_written(
    checkpoint: Path, small_disk: Path
) -> None:
    said = refused(checkpoint, "--out", small_disk / "out")
    assert "there is not enough room in" in said
    assert "2.1 MB are free" in said
    assert files(small_disk / "out") == {}


def test_room_is_asked_for_where_a_folder_will_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not enough room"):
        require_space(tmp_path / "not" / "yet" / "there", 10**18)
    require_space(tmp_path / "not" / "yet" / "there", 1)


def test_a_disk_that_fills_up_while_f16_is_written(checkpoint: Path, small_disk: Path) -> None:
    source = open_source(checkpoint)
    assert isinstance(source, CheckpointSource)
    with pytest.raises(UserError, match=r"the disk is full.* run the command again"):
        write_f16(small_disk / "x.gguf", "qwen3", source.planned, lambda writer: None)
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_while_a_tier_is_written(tmp_path: Path, small_disk: Path) -> None:
    source = write_tiny(tmp_path, replace(TINY_QWEN3, name="fuller", ffn=4096))
    with pytest.raises(UserError, match="disk is full"):
        quantise_tier(source, small_disk / "x.gguf", "q8_0")
    assert list(small_disk.iterdir()) == []


# -- stopped half-way -------------------------------------------------------------------------


QUICK = "q4_0,q8_0"  # llama.cpp makes K-quants in several times the time


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge_router.cli", "convert", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_mind_ctrl_c,
    )


def _mind_ctrl_c() -> None:
    """A process started in the background of a shell ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(folder: Path, pattern: str, seconds: float = 60.0) -> Path:
    """The file of that name, when it is there with something in it."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        for file in folder.glob(pattern):
            with suppress(FileNotFoundError):  # it is whole and has its name by now
                if file.stat().st_size > 0:
                    return file
        time.sleep(0.002)
    raise AssertionError(f"no {pattern} in {folder}")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that every piece of the work takes a moment (100 MB of F16)."""
    return write_tiny(tmp_path_factory.mktemp("large"), _LARGE)


_LARGE = replace(SHAPES["tiny"], name="large", width=1024, ffn=4096, layers=3, vocabulary=4096)


@pytest.fixture(scope="module")
def wanted(large: Path) -> dict[str, str]:
    """The ladder of an uninterrupted run."""
    out = large.parent / "whole"
    result = run(large, "--tiers", QUICK, "--no-verify", "--out", out)
    assert result.exit_code == 0, result.output
    return files(out)


@pytest.mark.parametrize(
    ("how", "when"),
    [
        (signal.SIGINT, "q8_0"),
        pytest.param(signal.SIGKILL, "q8_0", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "q4_0", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "q4_0", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_stopped_goes_on(
    how: signal.Signals, when: str, large: Path, wanted: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = started(large, "--tiers", QUICK, "--no-verify", "--out", out)
    wait_for(out, f".*-{when}.gguf.*.partial")
    process.send_signal(how)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (130 if how is signal.SIGINT else -how)
    assert "Traceback" not in stderr
    if how is signal.SIGINT:
        assert stderr.strip().splitlines()[-1] == "edge-router: interrupted"
        assert not list(out.glob(".*.partial"))
    # The tier in hand may have been at its last bytes, and a killed parent's child finishes what
    # it was at: it is there or not, but what has its final name is whole.
    assert files(out).items() <= wanted.items()
    again = run(large, "--tiers", QUICK, "--no-verify", "--out", out)
    assert again.exit_code == 0, again.output
    assert ("q4_0 is there already" in again.stderr) == (when == "q8_0")
    assert {k: v for k, v in files(out).items() if k != "ladder.toml"} == {
        k: v for k, v in wanted.items() if k != "ladder.toml"
    }
    assert not list(out.glob(".*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_checkpoint_stopped_while_f16_is_written(how: signal.Signals, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "ck", "llama3", width=1536)
    out = tmp_path / "out"
    process = started(folder, "--tiers", "q8_0", "--no-verify", "--out", out)
    wait_for(out, ".*-f16.gguf.*.partial")
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert files(out) == {}
    assert run(folder, "--tiers", "q8_0", "--no-verify", "--out", out).exit_code == 0
    with (out / "ladder.toml").open("rb") as file:
        assert tomllib.load(file)["tier"][0]["name"] == "q8_0"


def test_a_killed_parent_takes_its_child_along(
    large: Path, wanted: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = started(large, "--tiers", "q4_0", "--no-verify", "--out", out)
    partial = wait_for(out, ".*-q4_0.gguf.*.partial")
    child = int(partial.name.split(".")[-2])
    process.kill()
    process.communicate(timeout=60)
    limit = time.monotonic() + 20
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < limit:
        time.sleep(0.01)
    assert not Path(f"/proc/{child}/stat").exists()
    assert files(out).items() <= wanted.items()
    assert not partial.exists()


def test_two_conversions_do_not_share_a_folder(large: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = started(large, "--tiers", "q3_k_m", "--no-verify", "--out", out)
    wait_for(out, ".*.partial")
    assert "another conversion is writing" in refused(large, "--no-verify", "--out", out)
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_what_a_damaged_journal_does_not_know_is_left_alone(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(checkpoint, "--tiers", "q8_0", "--no-verify", "--out", out)
    (out / "ladder.toml").unlink()
    made = files(out)
    for text in ("", "{}", json.dumps({"source": "x", "tiers": [{"name": 1}]})):
        (out / ".convert.json").write_text(text)
        said = refused(checkpoint, "--tiers", "q8_0", "--no-verify", "--out", out)
        assert "tiny-qwen3-q8_0.gguf is there already" in said
        assert files(out) == made
