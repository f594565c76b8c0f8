"""What the engine needs to know of the machine: how many cores are really ours, and its name.

llama.cpp decodes fastest with one thread a physical core; threads beyond that
wait for each other. Containers hide both facts: the processors a process may
use come from its affinity mask, and a CPU quota may allow less than that.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path


def physical_cores() -> int:
    """Physical cores this process may use (affinity and CPU quota respected), at least 1."""
    if sys.platform == "darwin":
        return _mac_performance_cores() or os.cpu_count() or 1
    if not hasattr(os, "sched_getaffinity"):
        return max(1, (os.cpu_count() or 2) // 2)
    allowed = os.sched_getaffinity(0)
    cores = {_core_of(cpu) for cpu in allowed}
    quota = _cgroup_quota(Path("/sys/fs/cgroup/cpu.max"))
    limit = len(cores) if quota is None else min(len(cores), max(1, int(quota)))
    return max(1, limit)


def processors() -> int:
    """Processors this process may run on, hardware threads counted, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _core_of(cpu: int) -> str:
    """Name shared by the hardware threads of one core."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text().strip()
    except OSError:
        return str(cpu)


def _cgroup_quota(path: Path) -> float | None:
    """CPUs' worth of time that the control group allows, None for no limit."""
    try:
        quota, period = path.read_text().split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _mac_performance_cores() -> int:
    text = _output(["sysctl", "-n", "hw.perflevel0.physicalcpu"])
    return int(text) if text.isdigit() else 0


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


@cache
def cpu_model() -> str:
    """Name of the processor, as its maker gives it; the architecture where that is unknown."""
    if sys.platform == "darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
