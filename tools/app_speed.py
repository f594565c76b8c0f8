"""Measure what the app costs the model: how fast it writes with the app on and with it off.

The app opens in a real terminal as `edge-router play --pace 0` opens it, and plays the
same game several times. Step by step the app runs or its thread is held still, in fours:
on, off, off, on, then the other way round, then held all the time (`tools.app_clock`). So
the two are compared within one process and some seconds, and what two runs of a program
have of their own, or a machine that changes its speed, does not decide.

The ratio of four steps is the speed of the two with the app by that of the two without.
Printed is the median, with the percentile bootstrap's interval; the same of the fours that
are held throughout says how much the method sees where there is nothing. What the app
takes of a processor is printed as well.

Run it on an idle machine. Random weights at a real shape are written once (0.6B: a
minute and 1.0 GB) and kept. They never end a step, so every step writes its 96 tokens;
the prompt is the short one of the embedded model, because reading the 1100 tokens of
the worked example would take most of the time and say nothing here.

    python -m tools.app_speed --json app-speed.json
    python -m tools.app_speed --tier q4_k_m=A.gguf --prompt react
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edge_router.bench.shapes import find_subject
from edge_router.bench.synthetic import SHAPES
from edge_router.engine.machine import cpu_model, physical_cores
from edge_router.errors import UserError
from edge_router.results.file import write_json
from edge_router.results.machine import load_average
from edge_router.results.statistics import Estimate, median
from edge_router.tasks.registry import find_task
from tools.app_clock import Plan, Step
from tools.app_terminal import watch

Tell = Callable[[str], None]
FOUR = 4  # steps that are compared with each other


def measure(plan: Plan, tell: Tell) -> list[Step]:
    """All steps of the plan; those up to Ctrl-C when somebody presses it."""
    steps: list[Step] = []
    count, began = plan.games * plan.max_steps, time.monotonic()
    try:
        for step in watch(plan):
            steps.append(step)
            left = (time.monotonic() - began) / len(steps) * (count - len(steps))
            if len(steps) % FOUR == 0:
                tell(f"step {len(steps)} of {count}; about {left:.0f} s to go")
    except KeyboardInterrupt:
        tell(f"interrupted after {len(steps)} steps")
    return steps


def fours(steps: Sequence[Step], *, compared: bool) -> list[Sequence[Step]]:
    """Steps that belong together, but for the first, which warm up: those in which the app ran
    half of the time (`compared`), or those in which it was held throughout.
    """
    whole = [steps[i : i + FOUR] for i in range(FOUR, len(steps) - FOUR + 1, FOUR)]
    return [four for four in whole if any(step.app_runs for step in four) is compared]


def ratio(four: Sequence[Step]) -> float:
    """Speed with the app by speed without; of four held steps that of the outer by the inner."""
    is_held = not any(step.app_runs for step in four)
    counts_as_on = (True, False, False, True) if is_held else [step.app_runs for step in four]
    on, off = (
        [step for step, is_on in zip(four, counts_as_on, strict=True) if is_on is wanted]
        for wanted in (True, False)
    )
    return speed(on) / speed(off)


def speed(steps: Sequence[Step]) -> float:
    """Tokens a second."""
    return sum(step.tokens for step in steps) / sum(step.seconds for step in steps)


def figures_of(steps: Sequence[Step]) -> dict[str, Any]:
    """What is printed of the steps, as plain data. Raises `UserError` when they are too few."""
    compared, control = fours(steps, compared=True), fours(steps, compared=False)
    if not compared or not control:
        raise UserError(f"{len(steps)} steps are too few; 12 are the least, 100 tell something")
    counted = [step for four in compared for step in four]
    ons, offs = ([s for s in counted if s.app_runs is runs] for runs in (True, False))
    shares = [on.app_seconds / on.seconds for on in ons if on.app_seconds is not None]
    return {
        "steps": [asdict(step) for step in steps],
        "on_by_off": asdict(median([ratio(four) for four in compared])),
        "off_by_off": asdict(median([ratio(four) for four in control])),
        "off_tokens_per_second": statistics.median(speed([step]) for step in offs),
        "on_tokens_per_second": statistics.median(speed([step]) for step in ons),
        "app_share_of_a_core": statistics.median(shares) if shares else None,
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as a table."""
    machine, steps = figures["machine"], [Step(**step) for step in figures["steps"]]
    load = "" if machine["load_before"] is None else f", load {machine['load_before']}"
    console.print(f"{machine['cpu']}, {machine['cores']} cores{load}; {figures['model']}")
    table = Table("ratio of speeds", "times four steps", "median", "95 % interval", "all")
    for name, key in (("app on / off", "on_by_off"), ("off / off", "off_by_off")):
        estimate = Estimate(**figures[key])
        ratios = [ratio(four) for four in fours(steps, compared=key == "on_by_off")]
        table.add_row(
            name,
            str(len(ratios)),
            f"{estimate.value:.3f}",
            f"{estimate.low:.3f} to {estimate.high:.3f}",
            f"{min(ratios):.3f} to {max(ratios):.3f}",
        )
    console.print(table)
    off, on = figures["off_tokens_per_second"], figures["on_tokens_per_second"]
    console.print(f"tokens a second, medians: app off {off:.1f}, on {on:.1f}")
    if (share := figures["app_share_of_a_core"]) is not None:
        taken = f"{100 * share:.1f} % of a core"
        console.print(f"the app's threads took {taken} while text was written")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--shape", default="qwen3-0.6b", help=f"random weights: {', '.join(SHAPES)}")
    add("--model-dir", type=Path, help="where the random models are kept")
    add("--tier", action="append", default=[], metavar="NAME=PATH", help="measure this instead")
    add(
        "--prompt",
        choices=list(find_task().styles),
        default="household",
        help="how the game is put",
    )
    add("--router", default="low", help="who writes the steps")
    add("--games", type=int, default=12, help="how often the game is played")
    add("--max-steps", type=int, default=8, help="steps a game, a multiple of 4")
    add("--threads", type=int, help="default: every physical core")
    add("--json", type=Path, help="write the figures to this file as well")
    return parser


def _run(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    if options.games < 1 or options.max_steps < 1 or options.max_steps % FOUR:
        raise UserError("--games must be at least 1, and --max-steps a multiple of 4")
    subject = find_subject(
        None,
        options.tier,
        None if options.tier else options.shape,
        None,
        folder=options.model_dir,
        threads=options.threads,
        tell=tell,
    )
    plan = Plan(
        tiers=[f"{tier.name}={tier.path.absolute()}" for tier in subject.tiers],
        prompt=options.prompt,
        router=options.router,
        games=options.games,
        max_steps=options.max_steps,
        threads=options.threads or 0,
    )
    machine = {"cpu": cpu_model(), "cores": physical_cores(), "load_before": load_average()}
    about = {"machine": machine, "model": subject.name, "plan": asdict(plan)}
    return about | figures_of(measure(plan, tell))


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
