"""`edge-router doctor`: print the findings; the exit code says whether a game can be played."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from edge_router.bench.doctor import examine
from edge_router.ladders.resolve import resolve
from edge_router.screen.printable import columns, one_line, say, wrapped


def run_doctor(model: str | None, tiers: Sequence[str], *, as_json: bool) -> int:
    """0 when a game can be played, 1 when something stands in the way."""
    findings = list(examine(resolve(model, tiers)))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "STOP" if finding.stops else " !  " if finding.advice else " ok "
            _say(f"[{mark}] {finding.what}: {finding.found}", "")
            if finding.advice:
                _say(f"-> {finding.advice}", " " * len("[STOP] "))
    return int(any(finding.stops for finding in findings))


def _say(text: str, indent: str) -> None:
    """The text on as many lines as the screen needs; a pipe gets one."""
    width = columns()
    if width is None:
        say(indent + one_line(text))
        return
    say("\n".join(wrapped(text, width, indent=indent, hanging=" " * len("[STOP] "))))
