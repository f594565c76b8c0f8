"""The panels: a `draw_*` function each, of which only those lines are redrawn that have changed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.draw.head import draw_head, draw_legend, draw_note
from tui.draw.lines import strip_of
from tui.draw.sofar import LABEL, dial_cells, draw_sofar
from tui.draw.strip import columns, draw_strip
from tui.draw.time import draw_time
from tui.draw.why import draw_why
from tui.state.screenful import Screenful

Draw = Callable[[Screenful, int, int], Text]


class Panel(Widget):
    """A text that follows a `Screenful`."""

    draw: Draw
    title = ""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.border_title = self.title or None
        self._shown: Screenful | None = None
        self._text = Text()
        self._lines: list[Strip] = []
        self._ground = Style()

    def show(self, s: Screenful) -> None:
        """Draw `s`; sends to the terminal the lines that look different."""
        self._shown = s
        self._draw_again()

    def on_resize(self, _event: Resize) -> None:
        self._draw_again()

    def render_line(self, y: int) -> Strip:
        line = self._lines[y] if y < len(self._lines) else Strip([])
        return line.adjust_cell_length(self.content_size.width).apply_style(self._ground)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._ground = self.rich_style  # asked for on every line, and slow to find out

    def _draw_again(self) -> None:
        width, height = self.content_size
        if self._shown is None or width <= 0 or height <= 0:
            return
        text = type(self).draw(self._shown, width, height)
        if text == self._text and text.spans == self._text.spans:
            return
        before, self._text = self._lines, text
        self._lines = [strip_of(line) for line in text.split("\n", allow_blank=True)]
        for y, (old, new) in enumerate(zip_longest(before, self._lines)):
            if old != new:
                self.refresh(Region(0, y, width, 1))


class Head(Panel):
    draw = staticmethod(draw_head)


class Legend(Panel):
    """Of two runs, once."""

    draw = staticmethod(draw_legend)


class Note(Panel):
    """A sentence that is seldom there."""

    draw = staticmethod(draw_note)

    def show(self, s: Screenful) -> None:
        self.display = bool(s.note)
        super().show(s)


class PrecisionStrip(Panel):
    """The strip; a click on a step asks to see it."""

    draw = staticmethod(draw_strip)
    title = "Which precision wrote each step, and how much doubt there was"

    class Picked(Message):
        """Somebody clicked on a step."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or self._shown is None:
            return
        step = columns(self._shown, self.content_size.width).step_at(offset.x)
        if step is not None:
            self.post_message(self.Picked(step))


class Why(Panel):
    draw = staticmethod(draw_why)
    title = "Why this precision"


class Times(Panel):
    draw = staticmethod(draw_time)
    title = "Where the time goes"


class SoFar(Panel):
    """The meters; a click on the dial sets it."""

    draw = staticmethod(draw_sofar)
    title = "So far"

    class DialSet(Message):
        """Somebody clicked on the dial."""

        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or self._shown is None or self._shown.dial is None:
            return
        cells = dial_cells(self.content_size.width)
        at = offset.x - LABEL - len("cost ")
        if offset.y == 1 and 0 <= at < cells:
            self.post_message(self.DialSet(round(at / (cells - 1), 2)))


class KeyBar(Widget):
    """All keys, in as many lines as they need; a click on one is as good as pressing it."""

    def __init__(self, keys: list[tuple[str, str, str]], *, id: str | None = None) -> None:
        """`keys`: what is written on the key, what it does in a word or two, the action."""
        super().__init__(id=id)
        self._keys = keys

    def render(self) -> Text:
        rows, room = [Text(no_wrap=True)], self.content_size.width
        for key, does, action in self._keys:
            part = Text.assemble((key, "bold reverse"), f" {does}")
            part.apply_meta({"@click": action})
            if rows[-1] and rows[-1].cell_len + 2 + part.cell_len > room:
                rows.append(Text(no_wrap=True))
            elif rows[-1]:
                rows[-1].append("  ")
            rows[-1].append_text(part)
        return Text("\n", no_wrap=True).join(rows)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        row, rows = 0, 1
        for key, does, _ in self._keys:
            cells = cell_len(f"{key} {does}")
            if row and row + 2 + cells > width:
                row, rows = 0, rows + 1
            row += cells + (2 if row else 0)
        return rows
