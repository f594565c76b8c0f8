"""The scrolling transcript, drawn line by line (Textual's line API).

While a step is decoded only its own lines are made anew and only they are sent
to the terminal, so that a model is hardly slowed down by being watched.
"""

from __future__ import annotations

from collections.abc import Hashable

from rich.style import Style
from textual.events import Resize
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.draw.lines import strip_of
from tui.draw.transcript import blocks
from tui.state.screenful import Screenful

SCROLLS_BY = 4  # lines, while a step is written


class Transcript(ScrollView, can_focus=False):
    """Shows the transcript; follows the newest line unless somebody scrolled up.

    It takes no focus, so that all keys are the app's, in every state.
    """

    BORDER_TITLE = "What the agent thinks and does"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._shown: Screenful | None = None
        self._keys: list[Hashable] = []
        self._lines: list[list[Strip]] = []
        self._flat: list[Strip] = []
        self._width = 0
        self._ground = Style()
        self._laying_out = False
        self._follows = True  # until somebody scrolls up, and again when they are back at the end

    def show(self, s: Screenful) -> None:
        """Draw what is new in `s`."""
        self._shown = s
        self._lay_out()

    def on_resize(self, _event: Resize) -> None:
        self._lay_out()
        if self._follows:  # the height may have changed, and the text not
            self._to_end()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        if not self._laying_out:
            self._follows = new >= self.max_scroll_y

    def render_line(self, y: int) -> Strip:
        number = self.scroll_offset.y + y
        if number >= len(self._flat):
            return Strip.blank(self._width, self._ground)
        return self._flat[number].adjust_cell_length(self._width).apply_style(self._ground)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._ground = self.rich_style  # asked for on every line, and slow to find out

    def _lay_out(self) -> None:
        """Make the blocks that changed anew, and redraw from the first of them on."""
        width = self.scrollable_content_region.width
        if width <= 0 or self._shown is None:
            return
        if width != self._width:
            self._width, self._keys, self._lines = width, [], []
        wanted = blocks(self._shown)
        same = 0
        while same < min(len(wanted), len(self._keys)) and wanted[same].key == self._keys[same]:
            same += 1
        if same == len(wanted) == len(self._keys):
            return
        self._keys = [block.key for block in wanted]
        self._lines[same:] = [[strip_of(text) for text in b.draw(width)] for b in wanted[same:]]
        first = sum(map(len, self._lines[:same]))
        before = self._flat
        self._flat = before[:first] + [strip for lines in self._lines[same:] for strip in lines]
        while first < min(len(before), len(self._flat)) and before[first] == self._flat[first]:
            first += 1
        self._laying_out = True
        self._redraw(first, len(before))
        self._laying_out = False

    def _redraw(self, first: int, before: int) -> None:
        """Redraw from line `first` on; there were `before` lines."""
        offset = self.scroll_offset.y
        self._set_content_size(Size(self._width, self._content_height()))
        if self._follows:
            self._to_end()
        if self.scroll_offset.y == offset:  # else all of it is redrawn anyway
            height = max(len(self._flat), before) - first
            self.refresh(Region(0, first - offset, self.size.width, max(1, height)))
        else:
            self.refresh()

    def _to_end(self) -> None:
        if self.scroll_y != self.max_scroll_y:
            self.scroll_end(animate=False, immediate=True, x_axis=False)

    def _content_height(self) -> int:
        """While a step is written, with some empty lines at the end: scrolling redraws everything,
        so it is done for several lines at once.
        """
        assert self._shown is not None
        step, lines = self._shown.episode.current, len(self._flat)
        writes = step is not None and step.routed is not None and step.finished is None
        return -(-lines // SCROLLS_BY) * SCROLLS_BY if writes else lines

    def _set_content_size(self, size: Size) -> None:
        """What changes in height alone moves nothing else on the screen, so it asks for no layout:
        one takes 6 to 10 ms, a line of new text 1.
        """
        if size.width != self.virtual_size.width:
            self.virtual_size = size
        elif size.height != self.virtual_size.height:
            self.set_reactive(Transcript.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = size.height
            self.scroll_y = self.validate_scroll_y(self.scroll_y)
