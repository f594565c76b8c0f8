"""Threads follow the cores that are really ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_router.engine import machine


def test_there_is_at_least_one_core_and_no_more_than_the_system_has() -> None:
    assert 1 <= machine.physical_cores() <= (os.cpu_count() or 1)
    assert machine.cpu_model()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_bound_to_one_processor_has_one_core() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from edge_router.engine.machine import physical_cores; print(physical_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("text", "quota"),
    [("150000 100000", 1.5), ("max 100000", None), ("", None), ("x y", None), ("5 0", None)],
)
def test_a_control_groups_quota_is_read(tmp_path: Path, text: str, quota: float | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(text)
    assert machine._cgroup_quota(path) == quota
    assert machine._cgroup_quota(tmp_path / "absent") is None
