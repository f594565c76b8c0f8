"""`edge-router doctor`: print the findings; the exit code says whether a game can be played."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from edge_router.bench.doctor import examine
from edge_router.models import resolve


def run_doctor(model: str | None, tiers: Sequence[str], *, as_json: bool) -> int:
    """0 when a game can be played, 1 when something stands in the way."""
    findings = list(examine(resolve(model, tiers)))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "STOP" if finding.stops else " !  " if finding.advice else " ok "
            click.echo(f"[{mark}] {finding.what}: {finding.found}")
            if finding.advice:
                click.echo(f"       -> {finding.advice}")
    return int(any(finding.stops for finding in findings))
