"""`edge-router report`: the results of a folder in one HTML page."""

from __future__ import annotations

from pathlib import Path

from edge_router.errors import UserError
from edge_router.results.file import require_writable
from edge_router.results.plots import require_matplotlib
from edge_router.results.report import find_results, write_report
from edge_router.screen.printable import paragraphs, say


def run_report(folder: Path, out: Path | None) -> int:
    """Write the page and say where, and what is not in it; returns the exit code."""
    notes = list[str]()
    try:
        require_matplotlib()
    except UserError as error:
        notes.append(f"the page has no pictures: {error}")
    target = out or folder / "report.html"
    found, left_out = find_results(folder, pictures=not notes)
    require_writable(target)
    notes += left_out
    write_report(found, target, notes=notes)
    for line in paragraphs(notes):
        say(line, err=True)
    say(f"{len(found)} results in {target}")
    return 0
