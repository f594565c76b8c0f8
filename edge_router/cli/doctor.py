"""`edge-router doctor`: what stands in the way of playing here."""

from __future__ import annotations

import sys

import click

from edge_router.cli.options import LadderChoice, ladder_options


@click.command()
@ladder_options()
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON on stdout.")
def doctor(ladder: LadderChoice, as_json: bool) -> None:
    """Look at build, machine, ladder and games, with advice for each problem.

    The exit code is 1 when something stands in the way of playing.
    """
    from edge_router.bench.doctor import run_doctor

    sys.exit(run_doctor(ladder.model, ladder.tiers, as_json=as_json))
