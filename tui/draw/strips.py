"""Rich text as strips, for the widgets that draw line by line (Textual's line API)."""

from __future__ import annotations

from functools import lru_cache

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Span, Text
from textual.strip import Strip

_CONSOLE = Console(width=80, color_system="truecolor", legacy_windows=False)


def strip_of(line: Text) -> Strip:
    """One line as it stands. Equal lines give the same strip, which keeps what it renders to."""
    return _strip(line.plain, tuple(line.spans), line.style)


@lru_cache(maxsize=1024)  # some ten screens of 40 lines
def _strip(plain: str, spans: tuple[Span, ...], style: str | Style) -> Strip:
    line = Text(plain, style, spans=list(spans), end="")
    # A text without spans renders without its own style.
    styled = Segment.apply_style(line.render(_CONSOLE), _CONSOLE.get_style(style))
    return Strip(s for s in styled if s.text and s.text != "\n")
