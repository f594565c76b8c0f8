"""`edge-router replay`: the events of a trace through the listeners of a live run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from edge_router.agent.listeners.output import opens_app, stdout_printer
from edge_router.agent.replay import replay
from edge_router.agent.trace import read_trace
from edge_router.errors import UserError
from edge_router.parts import load_part


def run(
    files: Sequence[Path],
    *,
    speed: float | None,
    step: bool,
    as_json: bool,
    plain: bool,
    pace: float | None,
) -> int:
    """Replay and return the exit code."""
    if len(files) > 2:
        raise UserError(f"replay shows one trace or two side by side, not {len(files)}")
    traces = [read_trace(file) for file in files]
    if opens_app(as_json=as_json, plain=plain):
        app = load_part("tui.apps.commands", extra="tui")
        names = [file.name for file in files]
        return int(app.replay(traces, names, speed=speed, pace=pace, paused=step))
    if len(traces) > 1:
        raise UserError("two traces side by side need a terminal; print them one at a time")
    replay(
        traces[0],
        [stdout_printer(as_json=as_json)],
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
