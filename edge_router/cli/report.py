"""`edge-router report`: a folder of results as one page."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edge_router.cli.types import FILE


@click.command()
@click.argument("folder", type=FILE)
@click.option("--out", type=FILE, help="The page to write.  [FOLDER/report.html]")
def report(folder: Path, out: Path | None) -> None:
    """Put the results of a folder into one self-contained HTML page.

    FOLDER holds files that bench and calibrate wrote with --json.

    \b
    edge-router bench policies --json results/policies.json
    edge-router report results
    """
    from edge_router.results.report import run_report

    sys.exit(run_report(folder, out))
