"""`edge-router demo`: two recorded runs of one game, without loading a model."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from edge_router.agent.listeners.output import opens_app
from edge_router.agent.listeners.printer import PlainPrinter, outcome
from edge_router.agent.replay import replay
from edge_router.agent.trace import Trace, read_trace
from edge_router.parts import load_part

DEMO: Final = Path(__file__).parent.parent / "demo"
RUNS: Final = ("low", "routed")  # made by tools/record_demo.py


def run(*, plain: bool, pace: float | None) -> int:
    """Show the runs and return the exit code."""
    traces = [read_trace(DEMO / f"{name}.jsonl") for name in RUNS]
    if opens_app(as_json=False, plain=plain):
        app = load_part("tui.apps.commands", extra="tui")
        return int(app.replay(traces, ["low tier alone", "routed"], speed=None, pace=pace))
    low, routed = traces
    replay(routed, [PlainPrinter()])
    click.echo(f"\nThe same game twice, as it was recorded:\n{_line('low tier alone', low)}")
    click.echo(f"{_line('routed, as above', routed)}\n\nPlay it now: edge-router play --plain")
    return 0


def _line(name: str, trace: Trace) -> str:
    assert trace.finished is not None
    steps = trace.finished.steps_by_tier
    return f"  {name:18}{outcome(trace.finished):24}" + ", ".join(
        f"{count} by {tier}" for tier, count in steps.items()
    )
