"""Time pieces of work by llama-bench's conventions: a warm-up that is not counted, then repeats."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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


def in_turn(
    measurements: Sequence[Callable[[], float]], repeats: int, *, warm_up: int = 1
) -> list[Sample]:
    """Take each measurement once a round; the first `warm_up` rounds are thrown away."""
    rounds = [[measure() for measure in measurements] for _ in range(warm_up + repeats)]
    return [Sample(tuple(column)) for column in zip(*rounds[warm_up:], strict=True)]
