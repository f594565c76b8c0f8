"""Which tables a benchmark's results have, and where they go: the screen, files and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from edge_router.errors import UserError
from edge_router.results.file import Data, damage_named, require_writable, write_csv, write_json
from edge_router.results.machine import machine_line
from edge_router.results.policy_sheets import (
    differing_games,
    policy_notes,
    policy_sheets,
    policy_summary,
    tier_notes,
    tier_sheets,
    tier_summary,
)
from edge_router.results.speed_sheets import (
    advice_notes,
    advice_sheets,
    calibration_notes,
    calibration_sheets,
    speed_notes,
    speed_sheets,
    thread_sheets,
)
from edge_router.screen.printable import WIDTH, columns, one_line, paragraphs, say
from edge_router.screen.tables import Sheet

_SHEETS: Final[Mapping[str, Callable[[Data], list[Sheet]]]] = {
    "policies": policy_sheets,
    "tiers": tier_sheets,
    "speed": speed_sheets,
    "threads": thread_sheets,
    "calibration": calibration_sheets,
    "advice": advice_sheets,
}
_SUMMARIES: Final[Mapping[str, Callable[[Data], list[Sheet]]]] = {
    "policies": policy_summary,
    "tiers": tier_summary,
}
_NOTES: Final[Mapping[str, Callable[[Data], list[str]]]] = {
    "policies": policy_notes,
    "tiers": tier_notes,
    "speed": speed_notes,
    "threads": speed_notes,
    "calibration": calibration_notes,
    "advice": advice_notes,
}


def sheets_of(data: Data) -> list[Sheet]:
    """The tables of a results file. Raises UserError for a kind that this version does not know."""
    kind = str(data.get("kind"))
    if kind not in _SHEETS:
        raise UserError(
            f"there are no results of the kind {kind!r}; kinds are {', '.join(_SHEETS)}"
        )
    with damage_named(f"the {kind} results"):
        return _SHEETS[kind](data)


def summary_of(data: Data) -> list[Sheet]:
    """What a terminal shows first; all sheets where a kind has no summary."""
    make = _SUMMARIES.get(str(data.get("kind")))
    return make(data) if make else sheets_of(data)


def games_of(data: Data, *, full: bool, width: int) -> list[str]:
    """Lines about the games in which the rows differ; none for another kind."""
    return differing_games(data, full=full, width=width) if data["kind"] == "policies" else []


def notes_of(data: Data) -> list[str]:
    """Sentences that a reader of the tables must know."""
    kind = str(data.get("kind"))
    make = _NOTES.get(kind)
    with damage_named(f"the {kind} results"):
        return make(data) if make else []


# -- where they go --------------------------------------------------------------------------------

PICTURES = (".png", ".svg")


@dataclass(frozen=True)
class Outputs:
    """What the user asked for besides the table on screen."""

    json: Path | None = None
    csv: Path | None = None
    plot: Path | None = None
    markdown: bool = False  # the tables on stdout as Markdown
    full: bool = False  # all tables on screen, not the summary

    def check(self, others: Mapping[str, Path | None] = MappingProxyType({})) -> None:
        """Raise UserError before a long run when something could not be written after it.

        `others` are the files of other options, which an output must not replace.
        """
        outputs = {"--json": self.json, "--csv": self.csv, "--plot": self.plot}
        seen = {path.resolve(): name for name, path in others.items() if path is not None}
        for name, path in outputs.items():
            if path is None:
                continue
            require_writable(path)
            if path.resolve() in seen:
                raise UserError(f"{name} and {seen[path.resolve()]} name the same file, {path};"
                                " give each a file of its own")  # fmt: skip
            seen[path.resolve()] = name
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
