"""`edge-router replay`: the events of a trace through the listeners of a live run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edge_router.agent.output import stdout_printer
from edge_router.agent.replay import replay
from edge_router.agent.trace import read_trace


def run(file: str, *, speed: float | None, step: bool, as_json: bool, plain: bool) -> int:
    """Replay and return the exit code."""
    trace = read_trace(Path(file))
    listener = stdout_printer(as_json=as_json, plain=plain)
    replay(trace, [listener], speed=speed, step=_wait_for_enter if step else None)
    if trace.note:
        click.echo(trace.note, err=True)
    return 0


def _wait_for_enter() -> None:
    click.echo("-- Enter for the next step --", err=True, nl=False)
    if not sys.stdin.readline():
        click.echo(err=True)
