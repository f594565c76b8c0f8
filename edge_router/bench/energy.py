"""Energy that the processor says it used: Linux's powercap counters (RAPL), where readable.

Since 2020 kernels let only root read them; `sudo chmod a+r
/sys/class/powercap/intel-rapl:*/energy_uj` opens them until the next start. Virtual machines and
most ARM boards have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
