"""`edge-router replay` and `demo`: recorded runs, through the listeners of a live one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from edge_router.cli.options import Display, display_options, pace_option
from edge_router.cli.types import FILE, SPEED
from edge_router.errors import UserError

if TYPE_CHECKING:
    from edge_router.agent.trace import Trace


@click.command()
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE [FILE2]")
@click.option("--speed", type=SPEED, help="1 is the original pace.")
@click.option("--step", is_flag=True, help="Wait for Enter (in the app: n) before each step.")
@display_options
def replay(files: tuple[Path, ...], speed: float | None, step: bool, display: Display) -> None:
    """Play a trace back without a model; on a terminal in the app.

    \b
    edge-router replay episode.jsonl              watch it, go back and forth
    edge-router replay low.jsonl routed.jsonl     two runs of a game, side by side
    edge-router replay episode.jsonl --plain      print it
    edge-router replay episode.jsonl --speed 1    as fast as it was played
    edge-router replay episode.jsonl --step       one step each time you press a key
    """
    sys.exit(run_replay(files, speed, step, display))


def run_replay(files: Sequence[Path], speed: float | None, step: bool, display: Display) -> int:
    """Replay and return the exit code."""
    from edge_router.agent.listeners.output import opens_app, stdout_printer
    from edge_router.agent.trace import read_trace
    from edge_router.agent.trace import replay as play_back
    from edge_router.parts import load_part

    if len(files) > 2:
        raise UserError(f"replay shows one trace or two side by side, not {len(files)}")
    traces = [read_trace(file) for file in files]
    if opens_app(as_json=display.as_json, plain=display.plain):
        app = load_part("tui.apps.commands", extra="tui")
        names = [file.name for file in files]
        return int(app.replay(traces, names, speed=speed, pace=display.pace, paused=step))
    if len(traces) > 1:
        raise UserError("two traces side by side need a terminal; print them one at a time")
    play_back(
        traces[0],
        [stdout_printer(as_json=display.as_json)],
        speed=speed,
        step=_wait_for_enter if step else None,
    )
    if traces[0].note:
        click.echo(traces[0].note, err=True)
    return 0


def _wait_for_enter() -> None:
    click.echo("-- Enter for the next step --", err=True, nl=False)
    if not sys.stdin.readline():
        click.echo(err=True)


# -- the recording that comes with edge-router ----------------------------------------------------

DEMO: Final = Path(__file__).parent.parent / "demo"
RUNS: Final = ("low", "routed")  # made by tools/record_demo.py


@click.command()
@click.option("--plain", is_flag=True, help="Print the routed run instead of opening the app.")
@pace_option
def demo(plain: bool, pace: float | None) -> None:
    """Show two recorded runs of one game side by side, without loading a model.

    On the left the low tier alone, which does not win; on the right the router,
    which gives one step to the high tier.

    \b
    edge-router demo
    """
    sys.exit(run_demo(plain=plain, pace=pace))


def run_demo(*, plain: bool, pace: float | None) -> int:
    """Show the runs and return the exit code."""
    from edge_router.agent.listeners.output import opens_app
    from edge_router.agent.listeners.printer import PlainPrinter
    from edge_router.agent.trace import read_trace
    from edge_router.agent.trace import replay as play_back
    from edge_router.parts import load_part

    traces = [read_trace(DEMO / f"{name}.jsonl") for name in RUNS]
    if opens_app(as_json=False, plain=plain):
        app = load_part("tui.apps.commands", extra="tui")
        return int(app.replay(traces, ["low tier alone", "routed"], speed=None, pace=pace))
    low, routed = traces
    play_back(routed, [PlainPrinter()])
    click.echo("\nThe same game twice, as it was recorded:")
    click.echo(_table({"low tier alone": low, "routed, as above": routed}))
    click.echo("\nPlay it now: edge-router play --plain")
    return 0


def _table(runs: Mapping[str, Trace]) -> str:
    """A line a run: its name, how it ended, who wrote the steps; columns as wide as they need."""
    from edge_router.agent.listeners.printer import outcome

    rows = list[tuple[str, str, str]]()
    for name, trace in runs.items():
        assert trace.finished is not None
        by_tier = trace.finished.steps_by_tier
        steps = ", ".join(f"{count} by {tier}" for tier, count in by_tier.items())
        rows.append((name, outcome(trace.finished), steps))
    names, ends = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"  {name:{names}}  {end:{ends}}  {steps}" for name, end, steps in rows)
