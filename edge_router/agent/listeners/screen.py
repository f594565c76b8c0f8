"""Text for people: coloured by rich on a terminal, and the plain characters anywhere else."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from edge_router.screen.printable import clean

if TYPE_CHECKING:
    from rich.console import Console


def wants_colour(file: TextIO) -> bool:
    """Whether `file` is a terminal that shows colours and nobody objects (no-color.org)."""
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Screen:
    """Writes at once, never wraps. `colour` None looks at the file."""

    def __init__(self, file: TextIO | None = None, colour: bool | None = None) -> None:
        self._file = sys.stdout if file is None else file
        self._encoding = getattr(self._file, "encoding", None) or "utf-8"
        self._console: Console | None = None
        if wants_colour(self._file) if colour is None else colour:
            from rich.console import Console

            self._console = Console(file=self._file, highlight=False, force_terminal=True)

    def write(self, text: str, style: str = "") -> None:
        """Write `text` as it is, in a rich style ("bold red") where there is colour."""
        safe = clean(text).encode(self._encoding, "replace").decode(self._encoding)
        if self._console is not None:
            self._console.out(safe, style=style or None, end="")
            return
        self._file.write(safe)
        self._file.flush()

    def line(self, text: str = "", style: str = "") -> None:
        """Write `text` and end the line."""
        self.write(text, style)
        self.write("\n")


class IndentedStream:
    """Indents a text that arrives in pieces; how it is cut into pieces does not show.

    White space at both ends of the text is left out.
    """

    def __init__(self, indent: str) -> None:
        self._indent = indent
        self._held = ""
        self.begun = False

    def feed(self, piece: str) -> str:
        """What can be shown now that `piece` has arrived."""
        self._held += piece
        if not self.begun:
            self._held = self._held.lstrip()
        body = self._held.rstrip()
        if not body:
            return ""
        self._held = self._held[len(body) :]
        first = "" if self.begun else self._indent
        self.begun = True
        return first + body.replace("\n", "\n" + self._indent)
