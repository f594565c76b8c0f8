"""Work in other processes: order, failures, and pieces that kill their process."""

from __future__ import annotations

import errno
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_router.errors import MachineError, UserError
from edge_router.work.pool import Backend, Crash, Crew, StopRunError


def run_all(
    function: Callable[[int], int], items: list[int], backend: Backend
) -> list[tuple[int, int | Crash]]:
    with Crew(backend) as crew:
        return list(crew.run(function, items))


BACKENDS = pytest.mark.parametrize("jobs", [1, 2])


def work(item: int) -> int:
    """Doubles a number; 13 raises, 99 kills its process, 50 says that nothing can work."""
    if item == 13:
        raise RuntimeError("llama_decode returned -3\nmore")
    if item == 99:
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == 50:
        raise StopRunError("no such model")
    if item == 60:
        raise MachineError("no room for the engine")
    if item == 61:
        raise OSError(errno.ENOSPC, "No space left on device")
    if item == 62:
        raise OSError(errno.ENOENT, "No such file")
    return 2 * item


def where(_item: int) -> int:
    return os.getpid()


@BACKENDS
def test_a_piece_that_fails_or_dies_is_reported_and_the_others_are_done(jobs: int) -> None:
    items = [1, 13, 2, 99, 3, 4, 5, 6]
    done = dict(run_all(work, items, Backend(jobs)))
    assert sorted(done) == list(range(8))
    assert done[1] == Crash("RuntimeError: llama_decode returned -3")
    assert done[3] == Crash("the process was killed by SIGSEGV")
    assert [done[i] for i in (0, 2, 4, 5, 6, 7)] == [2, 4, 6, 8, 10, 12]


@BACKENDS
def test_what_would_fail_everywhere_ends_the_run(jobs: int) -> None:
    with pytest.raises(UserError, match="no such model"):
        list(run_all(work, [50, 1, 2], Backend(jobs)))


@pytest.mark.parametrize(("item", "sentence"), [(60, "no room"), (61, "No space left")])
def test_a_fault_of_the_machine_ends_the_run(item: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        list(run_all(work, [item], Backend()))
    assert run_all(work, [62], Backend()) == [
        (0, Crash("FileNotFoundError: [Errno 2] No such file"))
    ]


@BACKENDS
def test_work_never_runs_in_the_process_that_keeps_the_results(jobs: int) -> None:
    assert os.getpid() not in {pid for _, pid in run_all(where, [0, 1], Backend(jobs))}


def test_a_scheduler_that_is_not_there_is_reported() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(UserError, match="no dask scheduler at nowhere"):
        list(run_all(work, [1], Backend(1, "nowhere")))


@pytest.mark.slow
def test_dask_runs_the_same_work_on_two_local_workers() -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
    ):
        backend = Backend(scheduler=cluster.scheduler_address)
        done = dict(run_all(work, [1, 13, 2, 3], backend))
        assert done == {0: 2, 1: Crash("RuntimeError: llama_decode returned -3"), 2: 4, 3: 6}
        used = {pid for _, pid in run_all(where, list(range(20)), backend)}
        assert len(used) == 2
        assert os.getpid() not in used


@pytest.mark.parametrize("jobs", [1, 2])
def test_scripts_in_the_current_folder_are_not_run(
    jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("random", "socket", "struct", "tempfile"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    with Crew(Backend(jobs)) as crew:
        assert sorted(crew.run(math.sqrt, [4.0, 9.0])) == [(0, 2.0), (1, 3.0)]
