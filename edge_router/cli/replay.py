"""`edge-router replay`: the events of a trace through the listeners of a live run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from edge_router.cli.options import Display, display_options
from edge_router.cli.types import FILE, SPEED
from edge_router.errors import UserError


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
    sys.exit(run(files, speed, step, display))


def run(files: Sequence[Path], speed: float | None, step: bool, display: Display) -> int:
    """Replay and return the exit code."""
    from edge_router.agent.listeners.output import opens_app, stdout_printer
    from edge_router.agent.replay import replay as play_back
    from edge_router.agent.trace import read_trace
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
