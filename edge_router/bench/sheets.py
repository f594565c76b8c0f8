"""Results as tables for people: on screen, as Markdown, and in the HTML report.

A `Sheet` is made from the plain data of a results file, so an old file is shown in the same way
as a run that has just ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """A table; every column but the first `text_columns` holds numbers."""

    title: str
    columns: Cells
    rows: Sequence[Cells]
    text_columns: int = 1

    def rich(self) -> Table:
        from rich.table import Table

        table = Table(title=self.title, title_justify="left")
        for i, column in enumerate(self.columns):
            right = i >= self.text_columns
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        rule = ["---" if i < self.text_columns else "---:" for i in range(len(self.columns))]
        lines = [_line(self.columns), _line(rule), *map(_line, self.rows)]
        return f"**{self.title}**\n\n" + "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(estimate: Mapping[str, float] | None, form: str = ".1f", scale: float = 1.0) -> str:
    """ "8.3 (7.9-8.7)": a value and its interval; "" where there is none."""
    if estimate is None:
        return ""
    value, low, high = (scale * estimate[k] for k in ("value", "low", "high"))
    if format(low, form) == format(high, form):
        return format(value, form)
    dash = " to " if low < 0 else "-"
    return f"{value:{form}} ({low:{form}}{dash}{high:{form}})"


def machine_line(data: Mapping[str, Any]) -> str:
    """One line that says where the figures come from."""
    m = data["machine"]
    load = m.get("load_average")
    busy = f", load {load}" if load is not None else ""
    return (
        f"{m.get('cpu')}, {m.get('threads')} threads of {m.get('cores')} cores, "
        f"{m.get('memory_gb')} GB{busy}; {m.get('build') or m.get('llama.cpp', '')}"
    )
