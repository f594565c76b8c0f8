"""Measure what the app costs the model: decode tokens a second with the app on and off.

The same game is played by `edge-router play` as users run it, in a pseudo-terminal of
120 x 40 that is read to the end, in turn

- off: `--json`, which shows next to nothing;
- on: the app, with `--pace 0`, so that it has no rest between steps.

Speeds come from the traces, so they are those the program itself tells: decode
tokens over decode time, summed over the episode. Ratios are medians over pairs
of runs beside each other. Run it on an idle machine. Random weights at a real
shape are written once (0.6B: a minute and 1.1 GB) and kept.

    python -m edge_router.bench.app_speed --shape qwen3-0.6b --json app-speed.json
    python -m edge_router.bench.app_speed --tier q4_k_m=A.gguf
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edge_router.agent.events import EpisodeFinished
from edge_router.agent.trace import read_trace
from edge_router.bench.results import write_json
from edge_router.bench.synthetic import SHAPES, write_ladder
from edge_router.engine.machine import cpu_model, physical_cores
from edge_router.errors import UserError
from edge_router.folders import cache_folder

COLUMNS, ROWS = 120, 40
PATIENCE = 600.0  # seconds for one episode


@dataclass(frozen=True)
class Pair:
    """One run without and one with the app, beside each other; tokens a second."""

    off: float
    on: float

    @property
    def ratio(self) -> float:
        return self.on / self.off


def measure_pair(arguments: Sequence[str], *, app_first: bool) -> Pair:
    """Play with and without the app. Raises `UserError` when a run fails or they differ."""
    order = (True, False) if app_first else (False, True)
    ends = {with_app: play(arguments, with_app=with_app) for with_app in order}
    off, on = ends[False].latency, ends[True].latency
    if off.decode_tokens != on.decode_tokens:
        raise UserError(
            f"the runs differ ({off.decode_tokens} and {on.decode_tokens} tokens); use greedy"
            " sampling and a fixed game"
        )
    return Pair(off.tokens_per_second, on.tokens_per_second)


def play(arguments: Sequence[str], *, with_app: bool) -> EpisodeFinished:
    """Play one episode in a terminal; returns how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.jsonl"
        shown = ["--pace", "0"] if with_app else ["--json"]
        command = [sys.executable, "-m", "edge_router.cli", "play", *arguments, *shown]
        code = run_in_terminal([*command, "--trace", str(trace)], trace, quits=with_app)
        if code != 0 or not trace.exists():
            raise UserError(f"edge-router play failed with exit code {code}: {' '.join(arguments)}")
        finished = read_trace(trace).finished
    if finished is None or finished.reason == "interrupted":
        raise UserError("the episode did not come to its end")
    return finished


def run_in_terminal(command: Sequence[str], trace: Path, *, quits: bool) -> int:
    """Run to the end, reading all that is drawn; presses q when the trace is complete."""
    leader, follower = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    with subprocess.Popen(
        command,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment | {"TERM": "xterm-256color"},
        start_new_session=True,
    ) as process:
        os.close(follower)
        give_up = time.monotonic() + PATIENCE
        asked = False
        while process.poll() is None and time.monotonic() < give_up:
            if select.select([leader], [], [], 0.5)[0]:
                try:
                    os.read(leader, 65536)
                except OSError:  # Linux says EIO when the other end is closed
                    break
            if quits and not asked and _is_complete(trace):
                os.write(leader, b"q")
                asked = True
        if time.monotonic() >= give_up:
            process.kill()
    os.close(leader)
    return process.returncode


def _is_complete(trace: Path) -> bool:
    return trace.exists() and b'{"type":"footer"' in trace.read_bytes()[-2000:]


def measure(arguments: Sequence[str], rounds: int) -> dict[str, Any]:
    """All pairs and their median ratio; a round before them warms up."""
    load = os.getloadavg()[0]
    play(arguments, with_app=False)
    pairs = [measure_pair(arguments, app_first=bool(n % 2)) for n in range(rounds)]
    return {
        "machine": {"cpu": cpu_model(), "cores": physical_cores(), "load_before": round(load, 2)},
        "arguments": list(arguments),
        "pairs": [{**asdict(pair), "ratio": pair.ratio} for pair in pairs],
        "ratio": statistics.median(pair.ratio for pair in pairs),
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as a table."""
    machine = figures["machine"]
    console.print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']}")
    table = Table("app off, tok/s", "app on, tok/s", "on / off", title="Decode speed")
    for pair in figures["pairs"]:
        table.add_row(f"{pair['off']:.1f}", f"{pair['on']:.1f}", f"{pair['ratio']:.3f}")
    console.print(table)
    console.print(f"median on / off: {figures['ratio']:.3f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--shape", choices=list(SHAPES), default="qwen3-0.6b", help="random weights of this shape")
    add("--model-dir", type=Path, help="where the random models are kept")
    add("--tier", action="append", default=[], metavar="NAME=PATH", help="measure this instead")
    add("--router", default="low", help="who writes the steps")
    add("--max-steps", type=int, default=3)
    add("--rounds", type=int, default=5, help="pairs of runs")
    add("--threads", type=int, help="default: every physical core")
    add("--json", type=Path, help="write the figures to this file as well")
    return parser


def _arguments(options: argparse.Namespace) -> list[str]:
    tiers = options.tier
    if not tiers:
        folder = options.model_dir or cache_folder() / "synthetic"
        paths = write_ladder(SHAPES[options.shape], folder, threads=options.threads)
        tiers = [f"{name}={path}" for name, path in paths.items()]
    chosen = [f"--tier={tier}" for tier in tiers]
    chosen += ["--split=generated", f"--router={options.router}"]
    chosen += [f"--max-steps={options.max_steps}"]
    return chosen + ([f"--threads={options.threads}"] if options.threads else [])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 2 with one sentence on bad input."""
    options = _parser().parse_args(arguments)
    try:
        figures = measure(_arguments(options), options.rounds)
        show(figures, Console())
        if options.json:
            write_json(options.json, figures)
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
