"""Where a benchmark's results go: a table on screen, and files for programs, papers and eyes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_router.bench.results import require_writable, write_csv, write_json
from edge_router.bench.sheets import machine_line
from edge_router.bench.views import notes_of, sheets_of
from edge_router.errors import UserError

PICTURES = (".png", ".svg")


@dataclass(frozen=True)
class Outputs:
    """What the user asked for besides the table on screen."""

    json: Path | None = None
    csv: Path | None = None
    plot: Path | None = None
    markdown: bool = False  # the tables on stdout as Markdown

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
            from edge_router.bench.plots import require_matplotlib

            require_matplotlib()

    def write(self, data: Mapping[str, Any]) -> None:
        """Show the results and write the files. Raises UserError."""
        show(data, markdown=self.markdown)
        if self.json is not None:
            write_json(self.json, data)
        if self.csv is not None:
            write_csv(self.csv, data)
        if self.plot is not None:
            from edge_router.bench.plots import plot

            plot(data, self.plot)


def show(data: Mapping[str, Any], *, markdown: bool) -> None:
    """The results on stdout, with the machine below."""
    if markdown:
        print("\n".join(sheet.markdown() for sheet in sheets_of(data)))
        print("\n".join([*(f"- {note}" for note in notes_of(data)), f"- {machine_line(data)}"]))
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:  # a file or a pipe has room for the whole table
        console = Console(highlight=False, width=200)
    for sheet in sheets_of(data):
        console.print(sheet.rich())
    for note in notes_of(data):
        console.print(f"note: {note}", markup=False)
    console.print(machine_line(data), style="dim", markup=False)
