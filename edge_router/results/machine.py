"""The machine that figures belong to; they are worth nothing without it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_router.engine.machine import cpu_model, physical_cores


def machine_details(threads: int) -> dict[str, Any]:
    """Processor, cores, memory, load, and versions, in the order of interest.

    `threads` 0: their number followed the machine.
    """
    from edge_router.engine.library import build_line

    return {
        "cpu": cpu_model(),
        "cores": physical_cores(),
        "threads": threads,
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "load_average": load_average(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "build": build_line(),
    }


def load_average() -> float | None:
    """Processes that wanted a core during the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def memory_bytes() -> int:
    """Memory this process may use at most: the machine's, or its control group's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def available_bytes() -> int:
    """Memory that can be had now without swapping; all of it where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, memory_bytes())
    except OSError:
        pass
    return memory_bytes()


def resident_bytes() -> int:
    """Memory of this process now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def threads_in_words(threads: int | None, cores: int | None) -> str:
    """ "2 threads of 4 cores"; 0 threads are those whose number follows the machine."""
    if threads == 0:
        return f"threads that follow the machine, {cores} cores"
    return f"{threads} threads of {cores} cores"


def machine_line(data: Mapping[str, Any]) -> str:
    """One line that says where the figures come from."""
    m = data["machine"]
    load = m.get("load_average")
    busy = f", load {load}" if load is not None else ""
    return (
        f"{m.get('cpu')}, {threads_in_words(m.get('threads'), m.get('cores'))}, "
        f"{m.get('memory_gb')} GB{busy}; {m.get('build') or m.get('llama.cpp', '')}"
    )
