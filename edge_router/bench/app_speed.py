"""Measure what the app costs the model: the speed of the same game with the app on and off.

`edge-router play` runs as users run it (`bench.played`), in turn

- off: `--json`, which shows next to nothing;
- on: the app, with `--pace 0`, so that it has no rest between steps.

Two speeds are compared: decoding as the traces tell it (tokens over decode time),
and the whole episode by a clock outside, which counts whatever else the app might
take. Ratios are medians over pairs of runs beside each other, and the spread of the
runs without the app tells how small a difference can be seen at all.

Run it on an idle machine. Random weights at a real shape are written once (0.6B: a
minute and 1.0 GB) and kept. They never end a step, so every step decodes its 96
tokens; the prompt is the short one of the embedded model, because reading the 1100
tokens of the worked example would take most of the time and say nothing here.
How far it is, and how long each run took, is shown as it goes.

    python -m edge_router.bench.app_speed --json app-speed.json
    python -m edge_router.bench.app_speed --tier q4_k_m=A.gguf --prompt react
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edge_router.agent.styles import STYLES
from edge_router.bench.played import Played, play
from edge_router.bench.results import write_json
from edge_router.bench.shapes import find_subject
from edge_router.bench.synthetic import SHAPES
from edge_router.engine.machine import cpu_model, physical_cores
from edge_router.engine.tier import TierSpec
from edge_router.errors import UserError

Play = Callable[[bool], Played]  # plays once, with the app or without


@dataclass(frozen=True)
class Pair:
    """One run without and one with the app, beside each other."""

    off: Played
    on: Played

    @property
    def decode_ratio(self) -> float:
        """Speed with the app by speed without; 1 means that it costs nothing."""
        return self.on.tokens_per_second / self.off.tokens_per_second

    @property
    def episode_ratio(self) -> float:
        return self.off.episode_s / self.on.episode_s


def measure_pair(play_once: Play, *, app_first: bool) -> Pair:
    """Play with and without the app. Raises `UserError` when a run fails or they differ."""
    order = (True, False) if app_first else (False, True)
    ends = {with_app: play_once(with_app) for with_app in order}
    off, on = ends[False], ends[True]
    if off.tokens != on.tokens:
        raise UserError(f"the runs differ ({off.tokens} and {on.tokens} tokens)")
    return Pair(off, on)


def measure(arguments: Sequence[str], rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """All pairs and their ratios; a run before them warms up."""
    load, runs, began = os.getloadavg()[0], 1 + 2 * rounds, time.monotonic()
    done = 0

    def play_once(with_app: bool) -> Played:
        nonlocal done
        which = "app on" if with_app else "app off"
        tell(f"run {done + 1} of {runs}, {which} ...")
        played = play(arguments, with_app=with_app)
        done += 1
        left = (time.monotonic() - began) / done * (runs - done)
        tell(
            f"  {played.tokens} tokens at {played.tokens_per_second:.1f} tok/s, episode"
            f" {played.episode_s:.1f} s; about {left:.0f} s to go"
        )
        return played

    play_once(False)
    pairs = [measure_pair(play_once, app_first=bool(n % 2)) for n in range(rounds)]
    return {
        "machine": {"cpu": cpu_model(), "cores": physical_cores(), "load_before": round(load, 2)},
        "arguments": list(arguments),
        "pairs": [
            asdict(p) | {"decode_ratio": p.decode_ratio, "episode_ratio": p.episode_ratio}
            for p in pairs
        ],
        "decode_ratio": _summary([pair.decode_ratio for pair in pairs]),
        "episode_ratio": _summary([pair.episode_ratio for pair in pairs]),
        "off_spread": _spread([pair.off.tokens_per_second for pair in pairs]),
    }


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def _spread(values: Sequence[float]) -> float:
    """Difference of the fastest and the slowest, as a share of the median."""
    return (max(values) - min(values)) / statistics.median(values)


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as a table."""
    machine = figures["machine"]
    console.print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']}")
    speeds = ("app off\ntok/s", "app on\ntok/s", "decode speed\non / off")
    seconds = ("app off\ns", "app on\ns", "whole episode\non / off")
    table = Table("", *speeds, *seconds)
    for number, pair in enumerate(figures["pairs"], 1):
        off, on = pair["off"], pair["on"]
        table.add_row(
            str(number),
            f"{off['tokens_per_second']:.1f}",
            f"{on['tokens_per_second']:.1f}",
            f"{pair['decode_ratio']:.3f}",
            f"{off['episode_s']:.2f}",
            f"{on['episode_s']:.2f}",
            f"{pair['episode_ratio']:.3f}",
        )
    console.print(table)
    for name, what in (("decode_ratio", "decode speed"), ("episode_ratio", "whole episode")):
        ratio = figures[name]
        console.print(
            f"{what}, on / off: median {ratio['median']:.3f}"
            f" ({ratio['lowest']:.3f} to {ratio['highest']:.3f})"
        )
    tokens = figures["pairs"][0]["off"]["tokens"]
    console.print(
        f"{tokens} tokens a run; the runs without the app differ among themselves by"
        f" {100 * figures['off_spread']:.1f} %"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--shape", default="qwen3-0.6b", help=f"random weights: {', '.join(SHAPES)}")
    add("--model-dir", type=Path, help="where the random models are kept")
    add("--tier", action="append", default=[], metavar="NAME=PATH", help="measure this instead")
    add("--prompt", choices=list(STYLES), default="household", help="how the game is put")
    add("--router", default="low", help="who writes the steps")
    add("--max-steps", type=int, default=2, help="steps a run; random weights write 96 tokens each")
    add("--rounds", type=int, default=6, help="pairs of runs; an even number balances the order")
    add("--threads", type=int, help="default: every physical core")
    add("--json", type=Path, help="write the figures to this file as well")
    return parser


def describe_ladder(tiers: Sequence[TierSpec], prompt: str, folder: Path) -> None:
    """Write the ladder.toml by which `--model FOLDER` plays these files in a prompt style."""
    lines = ["[ladder]", 'name = "app-speed"', f"prompt = {json.dumps(prompt)}"]
    for tier in tiers:
        file = json.dumps(str(tier.path.absolute()))
        lines += ["[[tier]]", f"name = {json.dumps(tier.name)}", f"file = {file}"]
    (folder / "ladder.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _run(options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    if options.rounds < 1:
        raise UserError("--rounds must be at least 1")
    shape = None if options.tier else options.shape
    subject = find_subject(
        None,
        options.tier,
        shape,
        None,
        folder=options.model_dir,
        threads=options.threads,
        tell=tell,
    )
    with tempfile.TemporaryDirectory() as folder:
        describe_ladder(subject.tiers, options.prompt, Path(folder))
        arguments = [f"--model={folder}", "--split=generated", f"--router={options.router}"]
        arguments.append(f"--max-steps={options.max_steps}")
        if options.threads:
            arguments.append(f"--threads={options.threads}")
        figures = measure(arguments, options.rounds, tell)
    return figures | {"model": subject.name, "prompt": options.prompt}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 2 with one sentence on bad input, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        figures = _run(options, tell)
        show(figures, Console())
        if options.json:
            write_json(options.json, figures)
    except (UserError, OSError) as error:
        tell(str(error))
        return 2
    except KeyboardInterrupt:
        tell("interrupted; nothing was kept")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
