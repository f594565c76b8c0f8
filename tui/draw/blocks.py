"""What a transcript is made of: blocks of lines, each of which is drawn anew when its key changes.

A key changes exactly when the block's lines would, so that whoever draws can leave the other
blocks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from rich.text import Text

from tui.draw.lines import wrapped
from tui.state.screenful import Screenful

_LABEL = 7
CURSOR = "▌"


@dataclass(frozen=True)
class TranscriptBlock:
    """`draw` gives the lines for a width."""

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
