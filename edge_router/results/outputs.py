"""Where a benchmark's results go: a table on screen, and files for programs, papers and eyes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_router.errors import UserError
from edge_router.results.file import require_writable, write_csv, write_json
from edge_router.results.machine import machine_line
from edge_router.results.views import games_of, notes_of, sheets_of, summary_of
from edge_router.screen.printable import WIDTH, columns, one_line, paragraphs, say

PICTURES = (".png", ".svg")


@dataclass(frozen=True)
class Outputs:
    """What the user asked for besides the table on screen."""

    json: Path | None = None
    csv: Path | None = None
    plot: Path | None = None
    markdown: bool = False  # the tables on stdout as Markdown
    full: bool = False  # all tables on screen, not the summary

    def check(self) -> None:
        """Raise UserError before a long run when something could not be written after it."""
        for path in (self.json, self.csv, self.plot):
            if path is not None:
                require_writable(path)
        if self.plot is not None:
            if self.plot.suffix not in PICTURES:
                raise UserError(
                    f"--plot writes {' or '.join(PICTURES)} files, not {self.plot.name}"
                )
            from edge_router.results.plots import require_matplotlib

            require_matplotlib()

    def write(self, data: Mapping[str, Any]) -> None:
        """Write the files and show the results. Raises UserError.

        What was measured is on disk before anything is shown: a terminal that has gone takes
        nothing with it.
        """
        if self.json is not None:
            write_json(self.json, data)
        if self.csv is not None:
            write_csv(self.csv, data)
        if self.markdown:
            show_markdown(data)
        else:
            show(data, full=self.full)
        if self.plot is not None:
            from edge_router.results.plots import plot

            plot(data, self.plot)


def show_markdown(data: Mapping[str, Any]) -> None:
    """All tables on stdout as Markdown, with the machine below."""
    say("\n".join(sheet.markdown() for sheet in sheets_of(data)))
    for note in (*notes_of(data), machine_line(data)):
        say(f"- {one_line(note)}")


def show(data: Mapping[str, Any], *, full: bool) -> None:
    """The results on stdout, no wider than the screen, with the machine below."""
    width = columns() or WIDTH
    for sheet in sheets_of(data) if full else summary_of(data):
        say(f"{sheet.text(width)}\n")
    if games := games_of(data, full=full, width=width):
        say("\n".join([*games, ""]))
    notes = [f"note: {note}" for note in notes_of(data)]
    say("\n".join(paragraphs([*notes, machine_line(data)], width=width)))
