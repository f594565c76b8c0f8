"""Time pieces of work by llama-bench's conventions, and what they take of memory and energy.

A warm-up that is not counted comes first, then repeats.

Energy is what the processor says it used: Linux's powercap counters (RAPL), where readable.
Since 2020 kernels let only root read them; `sudo chmod a+r
/sys/class/powercap/intel-rapl:*/energy_uj` opens them until the next start. Virtual machines and
most ARM boards have none.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

Work = Callable[[], object]


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one thing."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float:
        """Standard deviation of a sample; 0 of a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def plain(self) -> dict[str, Any]:
        """What goes into a results file."""
        return {"mean": self.mean, "sd": self.sd, "median": self.median, "n": len(self.values)}

    def ratio(self, other: Sample) -> float:
        """Median of the ratios round by round: a machine that changes speed does not decide."""
        pairs = zip(self.values, other.values, strict=True)
        return statistics.median(a / b for a, b in pairs)


def seconds(work: Work) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def microseconds(work: Work, calls: int) -> tuple[float, float]:
    """(median, 99th percentile) of a call too short for `seconds`, after a warm-up."""
    for _ in range(max(1, calls // 10)):
        work()
    taken = np.empty(calls)
    for i in range(calls):
        started = time.perf_counter_ns()
        work()
        taken[i] = time.perf_counter_ns() - started
    median, p99 = np.percentile(taken / 1000.0, [50, 99])
    return float(median), float(p99)


def in_turn(
    measurements: Sequence[Callable[[], float]], repeats: int, *, warm_up: int = 1
) -> list[Sample]:
    """Take each measurement once a round; the first `warm_up` rounds are thrown away."""
    rounds = [[measure() for measure in measurements] for _ in range(warm_up + repeats)]
    return [Sample(tuple(column)) for column in zip(*rounds[warm_up:], strict=True)]


_BYTES: Final = 1 << 28  # far more than any cache holds


def copy_bandwidth(threads: int, *, repeats: int = 3) -> tuple[float, float]:
    """Bytes read and written a second by large copies: (one thread, all `threads`), medians.

    numpy copies without Python's lock.
    """
    source = np.ones(_BYTES, np.uint8)
    target = np.zeros(_BYTES, np.uint8)
    with ThreadPoolExecutor(threads) as pool:

        def copied(count: int) -> float:
            edges = np.linspace(0, _BYTES, count + 1, dtype=int)

            def part(i: int) -> None:
                where = slice(edges[i], edges[i + 1])
                np.copyto(target[where], source[where])

            took = seconds(lambda: list(pool.map(part, range(count))))
            return 2 * _BYTES / took

        one, every = in_turn([lambda: copied(1), lambda: copied(threads)], repeats)
    return one.median, every.median


# -- energy ---------------------------------------------------------------------------------------

POWERCAP: Final = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Counter:
    """One package's counter in microjoules, which starts again from 0 at `range_uj`."""

    file: Path
    range_uj: int

    def read(self) -> int:
        return int(self.file.read_text())


class EnergyMeter:
    """Joules of all packages since `start`; of the whole machine, not of this process."""

    def __init__(self, root: Path = POWERCAP) -> None:
        self._counters = [
            c for folder in sorted(root.glob("intel-rapl:*")) if (c := _counter(folder))
        ]
        self._before: list[int] = []

    @property
    def available(self) -> bool:
        return bool(self._counters)

    def start(self) -> None:
        self._before = [c.read() for c in self._counters]

    def joules(self) -> float | None:
        """Since `start`; None where the machine does not tell. Right for less than one wrap."""
        if not self._counters:
            return None
        used = 0
        for counter, before in zip(self._counters, self._before, strict=True):
            used += (counter.read() - before) % counter.range_uj
        return used / 1e6


def _counter(folder: Path) -> Counter | None:
    """The counter of a package (`intel-rapl:0`); parts of one (`intel-rapl:0:0`) are in it."""
    if folder.name.count(":") != 1:
        return None
    try:
        counter = Counter(
            folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()) + 1
        )
        counter.read()
    except (OSError, ValueError):
        return None
    return counter
