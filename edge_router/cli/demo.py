"""`edge-router demo`: two recorded runs of one game, without loading a model."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from edge_router.cli.options import pace_option

if TYPE_CHECKING:
    from edge_router.agent.trace import Trace

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
    sys.exit(run(plain=plain, pace=pace))


def run(*, plain: bool, pace: float | None) -> int:
    """Show the runs and return the exit code."""
    from edge_router.agent.listeners.output import opens_app
    from edge_router.agent.listeners.printer import PlainPrinter
    from edge_router.agent.replay import replay
    from edge_router.agent.trace import read_trace
    from edge_router.parts import load_part

    traces = [read_trace(DEMO / f"{name}.jsonl") for name in RUNS]
    if opens_app(as_json=False, plain=plain):
        app = load_part("tui.apps.commands", extra="tui")
        return int(app.replay(traces, ["low tier alone", "routed"], speed=None, pace=pace))
    low, routed = traces
    replay(routed, [PlainPrinter()])
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
