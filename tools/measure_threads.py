"""How fast tokens are written beside other programs, by the number of threads.

    python -m tools.measure_threads GGUF ... [--loads 0,1,2,4] [--seconds 1] [--repeats 3]

For each file and each number of busy programs, decode runs on every fixed number of threads
and with threads that follow the machine, in turn within each repeat. The table tells tokens a
second (median, and lowest to highest), and the share of the best fixed number that following
the machine comes to. Then the load changes while one run decodes, and what is printed is how
long it took until the speed was 85 % of what it was at the end. Needs the machine for itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import edge_router  # noqa: F401  (switches telemetry off before the libraries are loaded)
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.machine import cpu_model, physical_cores

BUSY: Final = "while True: pass"
PROMPT: Final = 64
N_CTX: Final = 1024
SETTLED: Final = 0.85  # of the speed at the end
WINDOW: Final = 0.2  # seconds over which speed is taken after a change


@dataclass(frozen=True)
class ThreadSpeeds:
    """One file beside one number of busy programs; tokens a second by setting ("1", "follow")."""

    file: str
    busy: int
    speeds: dict[str, list[float]]

    def median(self, setting: str) -> float:
        return statistics.median(self.speeds[setting])

    @property
    def share(self) -> float:
        """What following the machine comes to, of the best fixed number."""
        fixed = max(self.median(s) for s in self.speeds if s != "follow")
        return self.median("follow") / fixed


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """So many programs that want a core each."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for program in running:
            program.kill()
            program.wait()


def decode(context: LlamaContext, seconds: float) -> list[tuple[float, int]]:
    """Decode for so long; when each token was there, in seconds from the start, and its threads."""
    started, done = time.perf_counter(), list[tuple[float, int]]()
    while not done or done[-1][0] < seconds:
        if context.n_past + 1 >= N_CTX:
            context.truncate(PROMPT)
        context.decode([1], context.n_past)
        done.append((time.perf_counter() - started, context.n_threads))
    return done


def measure(path: Path, loads: list[int], seconds: float, repeats: int) -> list[ThreadSpeeds]:
    """The rows of one file."""
    model = LlamaModel.load(path, use_mmap=False)
    numbers: list[int | None] = [*range(1, physical_cores() + 1), None]
    contexts = {str(n or "follow"): LlamaContext(model, n_ctx=N_CTX, n_threads=n) for n in numbers}
    for context in contexts.values():
        context.decode([1] * PROMPT, 0)
    rows = []
    for busy in loads:
        speeds: dict[str, list[float]] = {name: [] for name in contexts}
        with busy_programs(busy):
            decode(contexts["follow"], 2.0)  # what a run of some length has long behind it
            for _ in range(repeats):
                for name, context in contexts.items():
                    done = decode(context, seconds)
                    speeds[name].append(len(done) / done[-1][0])
        rows.append(ThreadSpeeds(path.name, busy, speeds))
        print(line(rows[-1]), flush=True)
    return rows


def follow(path: Path, busy: int) -> dict[str, float]:
    """Seconds until the speed has settled after the load came, and after it went."""
    context = LlamaContext(LlamaModel.load(path, use_mmap=False), n_ctx=N_CTX)
    context.decode([1] * PROMPT, 0)
    decode(context, 3.0)
    with busy_programs(busy):
        came = settled(decode(context, 6.0))
    return {"came": came, "went": settled(decode(context, 6.0))}


def settled(done: list[tuple[float, int]]) -> float:
    """Seconds until the speed over a short window first was 85 % of the last two seconds'."""
    end = done[-1][0]
    last = sum(1 for at, _ in done if at > end - 2.0) / 2.0
    for at, _ in done:
        within = sum(1 for other, _ in done if at <= other < at + WINDOW)
        if within / WINDOW >= SETTLED * last:
            return at
    return end


def line(row: ThreadSpeeds) -> str:
    """A row for people, at most 80 columns on up to 3 settings."""
    cells = "  ".join(
        f"{name} {row.median(name):.1f} ({min(taken):.1f}-{max(taken):.1f})"
        for name, taken in row.speeds.items()
    )
    return f"  {row.busy} busy: {cells}  {100 * row.share:.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--loads", default="0,1,2,4")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    loads = [int(part) for part in options.loads.split(",")]
    print(f"{cpu_model()}, {physical_cores()} cores; tokens/s, median (lowest-highest)")
    found = []
    for path in options.files:
        print(path.name, flush=True)
        rows = measure(path, loads, options.seconds, options.repeats)
        change = follow(path, 2)
        print(
            f"  two busy programs: settled {change['came']:.1f} s after they came,"
            f" {change['went']:.1f} s after they went",
            flush=True,
        )
        found.append({"rows": [asdict(row) for row in rows], "settled_s": change})
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
