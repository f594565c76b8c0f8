"""Tables for people: on a screen of any width, and as Markdown.

A table that is wider than the screen is shown in parts, one below the other, each with the
columns of text in front. No number is cut and no word is broken; of a name that takes more than
half the screen the two ends are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Final, Literal

from edge_router.screen.printable import WIDTH, cell_width, columns, one_line, shortened, wrapped

Cells = tuple[str, ...]
_GAP: Final = 2  # columns between two cells
_LEAST: Final = 8  # columns that a text gets, however narrow the screen


@dataclass(frozen=True)
class Sheet:
    """A table; every column but the first `text_columns` holds numbers."""

    title: str
    columns: Cells
    rows: Sequence[Cells]
    text_columns: int = 1

    def text(self, width: int | None = None) -> str:
        """The table in lines of at most `width` columns; None: as wide as the screen."""
        width = width or columns() or WIDTH
        cells = [_cells(line) for line in (self.columns, *self.rows)]
        fits = _text_widths(cells, self.text_columns, width)
        shown = [[*map(_filled, line, fits), *line[self.text_columns :]] for line in cells]
        heads, rows = shown[0], shown[1:]
        widths = [_column_width(heads[i], [row[i] for row in rows]) for i in range(len(heads))]
        parts = _parts(widths, self.text_columns, width)
        title = "\n".join(wrapped(self.title, width))
        tables = [_drawn([heads, *rows], part, widths, self.text_columns) for part in parts]
        return "\n\n".join([f"{title}\n{tables[0]}", *tables[1:]])

    def markdown(self) -> str:
        """The table whole, as Markdown."""
        rule = ["---" if i < self.text_columns else "---:" for i in range(len(self.columns))]
        lines = [_markdown_line(line) for line in (self.columns, rule, *self.rows)]
        return f"**{one_line(self.title)}**\n\n" + "\n".join(lines) + "\n"


def _filled(text: str, width: int) -> str:
    """`text` in lines of at most `width`; a word that is wider keeps its two ends."""
    words = " ".join(shortened(word, width) for word in text.split(" "))
    return "\n".join(wrapped(words, width))


def _cells(line: Sequence[str]) -> list[str]:
    return [one_line(cell) for cell in line]


def _text_widths(lines: Sequence[Sequence[str]], text_columns: int, width: int) -> list[int]:
    """How wide each column of text may be, so that the widest number still fits beside them."""
    widths = [_column_width(head, [line[i] for line in lines[1:]])
              for i, head in enumerate(lines[0])]  # fmt: skip
    numbers = widths[text_columns:]
    most = max(_LEAST, width // 2) if numbers else width
    text = [min(w, most) for w in widths[:text_columns]]
    room = width - (max(numbers) + _GAP if numbers else 0) - _GAP * max(0, text_columns - 1)
    while text and sum(text) > room and max(text) > _LEAST:
        widest = text.index(max(text))
        others = sum(text) - text[widest]
        text[widest] = max(_LEAST, min(text[widest] - 1, room - others))
    return text


def _column_width(head: str, cells: Sequence[str]) -> int:
    """A column is as wide as its widest cell and the widest word of its heading."""
    words = head.split() or [""]
    lines = [line for cell in cells for line in cell.split("\n")] or [""]
    return max(*(cell_width(word) for word in words), *(cell_width(line) for line in lines), 1)


def _parts(widths: Sequence[int], text_columns: int, width: int) -> list[list[int]]:
    """Which columns go together: those of text in each part, the others in their order."""
    text = list(range(text_columns))
    taken = sum(widths[i] + _GAP for i in text)
    parts, room = [list(text)], width - taken
    for i in range(text_columns, len(widths)):
        if widths[i] > room and len(parts[-1]) > len(text):
            parts.append(list(text))
            room = width - taken
        parts[-1].append(i)
        room -= widths[i] + _GAP
    return parts


def _drawn(
    lines: Sequence[Sequence[str]], part: Sequence[int], widths: Sequence[int], text_columns: int
) -> str:
    """The columns of one part, drawn by rich without reading markup out of them."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for i in part:
        side: Literal["left", "right"] = "left" if i < text_columns else "right"
        head = Text("\n".join(wrapped(lines[0][i], widths[i])))
        table.add_column(head, justify=side, no_wrap=True, min_width=widths[i])
    for line in lines[1:]:
        table.add_row(*(Text(line[i]) for i in part))
    out = StringIO()
    Console(file=out, width=10_000, color_system=None).print(table)
    return "\n".join(_stripped(out.getvalue()))


def _stripped(text: str) -> Iterator[str]:
    return (line.rstrip() for line in text.rstrip("\n").split("\n"))


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"
