"""`edge-router report`: the results of a folder in one HTML page."""

from __future__ import annotations

import sys
from pathlib import Path

from edge_router.bench.plots import require_matplotlib
from edge_router.bench.report import find_results, write_report
from edge_router.bench.results import require_writable
from edge_router.errors import UserError


def run_report(folder: Path, out: Path | None) -> int:
    """Write the page and say where; returns the exit code."""
    found, others = find_results(folder)
    target = out or folder / "report.html"
    require_writable(target)
    for path in others:
        print(f"{path.name} holds no results and is left out", file=sys.stderr)
    pictures = True
    try:
        require_matplotlib()
    except UserError as error:
        print(f"the page has no pictures: {error}", file=sys.stderr)
        pictures = False
    write_report(found, target, pictures=pictures)
    print(f"{len(found)} results in {target}")
    return 0
