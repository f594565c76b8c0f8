"""Lines of rich text, cut to a width, and blocks of them, which a transcript is made of.

A block has a key, which changes exactly when its lines would, so that whoever draws can leave
the other blocks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Span, Text
from textual.strip import Strip

from tui.draw.look import sign
from tui.state.screenful import Screenful

_WRAPPER = Console(width=80)  # rich wants one to wrap text; what it is set to plays no part

Piece = str | tuple[str, str]  # text, or text and its style


def line(*pieces: Piece) -> Text:
    """One line from pieces."""
    return Text.assemble(*pieces, no_wrap=True, end="")


def block(lines: Sequence[Text], width: int, height: int) -> Text:
    """At most `height` lines, each cut to `width` with an ellipsis."""
    kept = []
    for text in lines[:height]:
        cut = text.copy()
        cut.truncate(width, overflow="ellipsis")
        kept.append(cut)
    return Text("\n", no_wrap=True, end="").join(kept)


def both_ends(left: Text, right: Text, width: int) -> Text:
    """`left` and `right` at the ends of a line; `left` gives way."""
    room = max(0, width - right.cell_len - 1)
    shown = left.copy()
    shown.truncate(room, overflow="ellipsis")
    return Text.assemble(shown, " " * max(1, width - shown.cell_len - right.cell_len), right)


def wrapped(text: Text, width: int) -> list[Text]:
    """The text broken into lines at spaces."""
    return list(text.wrap(_WRAPPER, max(1, width), no_wrap=False))


def badge(s: Screenful, tier: int, *, bold: bool = True) -> tuple[str, str]:
    """A tier's sign and name in its colour."""
    style = f"bold {s.colour(tier)}" if bold else s.colour(tier)
    return f"{sign(tier, s.count)} {s.episode.tiers[tier]}", style


def pad(text: str, width: int) -> str:
    """`text` filled with spaces to `width` cells."""
    return text + " " * max(0, width - cell_len(text))


# -- for Textual's line API ----------------------------------------------------------------------


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


_LABEL = 7
CURSOR = "▌"


@dataclass(frozen=True)
class TranscriptBlock:
    """A piece of a transcript, drawn anew when its key changes; `draw` gives lines for a width."""

    key: Hashable
    draw: Callable[[int], list[Text]]


def spoken(s: Screenful, label: str, text: Text, width: int, colour: str) -> list[Text]:
    """A text under a label, with the step's colour down the left side."""
    edge = ("  ▎", colour) if colour else ("   ", "")
    lines = []
    for number, part in enumerate(wrapped(text, max(8, width - 3 - _LABEL))):
        name = (label if number == 0 else "").ljust(_LABEL)
        part.rstrip()
        lines.append(Text.assemble(edge, (name, s.look.soft), part))
    return lines
