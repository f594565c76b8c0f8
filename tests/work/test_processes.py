"""Work ends with the process that asked for it, and SIGTERM ends a command as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_router.cli.config import commands_of
from edge_router.cli.main import main
from edge_router.cli.types import THREADS
from edge_router.engine.machine import processors
from edge_router.work.processes import interrupts_held, sigterm_as_ctrl_c
from tests.commands import command_paths


def test_sigterm_is_a_ctrl_c_within_a_command_and_itself_again_after_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.fixture
def deaf_to_ctrl_c() -> Iterator[None]:
    """As in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("deaf_to_ctrl_c")
def test_sigterm_is_heard_where_ctrl_c_is_ignored() -> None:
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("deaf_to_ctrl_c")
def test_what_must_be_whole_is_whole_before_sigterm_is_heard_and_ctrl_c_stays_ignored() -> None:
    done = []

    def work(number: signal.Signals) -> None:
        with interrupts_held():
            signal.raise_signal(number)
            done.append(number)

    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        work(signal.SIGTERM)
    work(signal.SIGINT)
    assert done == [signal.SIGTERM, signal.SIGINT]


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def has_results(store: Path) -> bool:
    """Whether a game has ended, so that workers are in the middle of others."""
    try:
        with sqlite3.connect(store) as database:
            return bool(database.execute("SELECT COUNT(*) FROM results").fetchone()[0])
    except sqlite3.Error:  # it is being made
        return False


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_a_benchmark_that_is_killed(
    jobs: int, number: signal.Signals, tmp_path: Path
) -> None:
    store = tmp_path / "s.sqlite"
    program = [sys.executable, "-m", "edge_router.cli", "bench", "policies", "--split=generated"]
    program += ["--routers=high", "--threads=1", f"--jobs={jobs}", f"--store={store}"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, start_new_session=True) as process:
        give_up = time.monotonic() + 300
        while not has_results(store):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.1)
        process.send_signal(number)  # to the parent alone
        process.wait(timeout=120)
    give_up = time.monotonic() + 120
    while alive(process.pid):
        assert time.monotonic() < give_up, "a worker goes on without its parent"
        time.sleep(0.1)
    assert process.returncode == (130 if number == signal.SIGTERM else -number)


def test_no_command_takes_more_threads_than_the_machine_has() -> None:
    found = 0
    for path in command_paths():
        command: click.Command = main
        for word in path.split():
            assert isinstance(command, click.Group)
            command = dict(commands_of(command, click.Context(command)))[word]
        for option in command.params:
            if option.name == "threads":
                found += 1
                given = [*path.split(), f"--threads={processors() + 1}"]
                given += ["x"] * sum(isinstance(p, click.Argument) for p in command.params)
                result = CliRunner().invoke(main, given)
                assert result.exit_code == 2, path
                assert "processors" in result.stderr, path
    assert found >= 5
    assert THREADS.convert(str(processors()), None, None) == processors()
