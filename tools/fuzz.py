"""Damage small files of every kind that edge-router reads, and count what its code does not stand.

    python -m tools.fuzz                          # 3,000 inputs, under 20 minutes on 2 cores
    python -m tools.fuzz --kind trace --count 500 --seed 7

Each input is read by the code that reads it in a run, in child processes. It may be read or
refused with a sentence. Any other exception, more than 10 s, or the end of the process by a
signal is a fault; faults are listed with the number that makes the input again (--first).
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge_router.work.processes import python_module
from tools.fuzz_kinds import KINDS

COLUMNS: Final = ("read", "refused", "traceback", "hang", "signal")
FAULTS: Final = COLUMNS[2:]
LIMIT: Final = 10.0  # seconds an input
_START: Final = 180.0  # seconds until the libraries are loaded and the whole files are read


@dataclass
class Report:
    """What became of the inputs so far; filled by several threads."""

    total: int
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, number: int, how: str, what: str) -> None:
        with self._lock:
            self.counts.setdefault(kind, Counter())[how] += 1
            if how in FAULTS:
                self.faults.append(f"{kind} {number}: {how} {what}".strip())
            self._show()

    def _show(self) -> None:
        done = sum(c.total() for c in self.counts.values())
        faults = len(self.faults)
        left = (time.monotonic() - self.began) / done * (self.total - done)
        line = f"{done}/{self.total} inputs, {faults} faults, {left / 60:.0f} min left"
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif done % 100 == 0:
            print(line, file=sys.stderr, flush=True)

    def table(self) -> str:
        """At most 80 columns wide."""
        rows: list[tuple[str, ...]] = [("kind", *COLUMNS)]
        rows += [(kind, *(str(c[how]) for how in COLUMNS)) for kind, c in self.counts.items()]
        total = sum(self.counts.values(), Counter[str]())
        rows.append(("all", *(str(total[how]) for how in COLUMNS)))
        return "\n".join(
            row[0].ljust(12) + "".join(cell.rjust(11) for cell in row[1:]) for row in rows
        )


class _Child:
    """A process that reads inputs; `lines` gives what it says, None after too long a silence."""

    def __init__(self, kind: str, seed: int, first: int, last: int, folder: Path) -> None:
        arguments = (kind, str(seed), str(first), str(last), str(folder))
        self.process = subprocess.Popen(
            python_module("tools.fuzz_child", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(folder / "stderr").open("wb"),
            env={**os.environ, "OMP_NUM_THREADS": "1", "GGML_NO_BACKTRACE": "1"},
            start_new_session=True,
        )

    def lines(self, limit: float) -> Iterator[str | None]:
        assert self.process.stdout is not None
        waiting, wait = b"", _START
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(wait):
                    yield None
                    return
                piece = os.read(self.process.stdout.fileno(), 1 << 16)
                if not piece:
                    return
                *whole, waiting = (waiting + piece).split(b"\n")
                yield from (line.decode() for line in whole)
                wait = limit

    def end(self) -> int:
        """Its exit status; it is killed when it still runs."""
        try:
            return self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()


def fuzz_kind(kind: str, seed: int, first: int, last: int, limit: float, report: Report) -> None:
    """Read the inputs `first` to `last`; a child that hangs or dies is followed by another."""
    with tempfile.TemporaryDirectory(prefix="edge-router-fuzz-") as place:
        folder, at = Path(place), first
        while at < last:
            at = _one_child(kind, seed, at, last, folder, limit, report)


def _one_child(
    kind: str, seed: int, first: int, last: int, folder: Path, limit: float, report: Report
) -> int:
    """The number to go on with."""
    child, ready, begun, silent = _Child(kind, seed, first, last, folder), False, first, False
    for line in child.lines(limit):
        if line is None:
            silent = True
            child.process.kill()
        elif line == "ready":
            ready = True
        elif line.isdigit():
            begun = int(line)
        else:
            number, how, what = json.loads(line)
            report.add(kind, number, how, what)
            begun = number + 1
    status = child.end()
    if not ready:
        last_words = (folder / "stderr").read_text(errors="replace")[-2000:]
        raise SystemExit(f"{kind}: the whole files are not read ({status})\n{last_words}")
    if begun >= last:
        return last
    how, what = ("hang", "") if silent else ("signal", f"status {status}")
    report.add(kind, begun, how, what)
    return begun + 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this; may be repeated")
    parser.add_argument("--count", type=int, default=3000, help="inputs, of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input of a kind")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds an input may take")
    parser.add_argument("--jobs", type=int, default=2, help="kinds at once")
    options = parser.parse_args()
    kinds = options.kind or list(KINDS)
    each = -(-options.count // len(kinds))
    report = Report(each * len(kinds))
    with ThreadPoolExecutor(options.jobs) as pool:
        first, last = options.first, options.first + each
        work = [
            pool.submit(fuzz_kind, kind, options.seed, first, last, options.limit, report)
            for kind in kinds
        ]
        for done in work:
            done.result()
    print(file=sys.stderr)
    print(report.table())
    for fault in sorted(report.faults):
        print(fault)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
