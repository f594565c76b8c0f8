"""The help screen: what one sees, in plain words, and all keys."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

WORDS = """\
A language model plays a game of finding and carrying things in a household. The model lies on \
disk in several copies of different precision (quantisation): fewer bits a number make a copy \
smaller and often faster, and a little less reliable. Most steps are easy, and the smallest copy \
writes them as well as any. So for every step a small router looks at how much doubt the \
smallest copy has, and picks the copy that writes the step.

One step: the smallest copy reads what is new (prefill); the router decides (route); if another \
copy is chosen, it is handed what the smallest has read (handoff: a copy of the KV cache, instead \
of reading it all again) and reads the last words itself (catch-up); then it writes a thought and \
a command (decode), and the game answers.

Some routers, also the one that comes with the model, decide later: the smallest copy writes the \
whole step on trial, and the router reads how sure it was of every word (a token: a word or a \
piece of one) of this draft. A draft that it trusts is the step; else the chosen copy writes anew.

Circles are copies: the fuller, the more precise. The strip shows a column a step: as high as the \
doubt, in the colour and with the circle of the copy that wrote it. A circle in reverse was forced \
by you. The line is the limit: doubt that reaches it calls for a more precise copy. Doubt is the \
router's own measure (entropy in nats, 1 - margin, or a probability); unless it is a probability, \
the limit is drawn in the middle and doubt d at d / (d + limit).

Memory is a copy's weights and its KV cache (what the model keeps of the text it has read), which \
has room for the whole context from the beginning.

Times are the model's alone, without the game's. "about" and "estimate" mark what was not measured \
but calculated from this run's own speeds: what the most precise copy would have taken for the \
same steps, and what handing over saved."""


class HelpScreen(ModalScreen[None]):
    """Closed by any of the keys that close things."""

    CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > VerticalScroll {
        width: 90%; max-width: 100; height: 90%; max-height: 46;
        border: round $primary; background: $surface; padding: 1 2;
    }
    """
    AUTO_FOCUS = "VerticalScroll"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,enter,space", "dismiss", "Close"),
    ]

    def __init__(self, extra: str, keys: list[tuple[str, str, str]]) -> None:
        super().__init__()
        self._extra = extra
        self._keys = keys

    def compose(self) -> ComposeResult:
        table = Table.grid(padding=(0, 3))
        half = (len(self._keys) + 1) // 2
        for left, right in zip(self._keys, [*self._keys[half:], ("", "", "")], strict=False):
            if self._keys.index(left) >= half:
                break
            table.add_row(Text(left[0], "bold"), left[1], Text(right[0], "bold"), right[1])
        with VerticalScroll() as box:
            box.border_title = "What you see   (Esc closes)"
            yield Static(table)
            yield Static("\n" + "\n\n".join(filter(None, (self._extra, WORDS))), markup=False)
