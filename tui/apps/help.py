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

GAME = """\
A language model plays a game of finding and carrying things in a household. The model lies on \
disk at several precisions, its tiers (quantisation): fewer bits a number make a tier smaller and \
often faster, and a little less reliable. Most steps are easy, and the low tier writes them as \
well as any. So for every step a small router looks at how much doubt the low tier has, and keeps \
the step there or escalates it to a higher tier.

One step: the low tier reads what is new (prefill); the router decides (route); a higher tier is \
handed what the low tier has read (handoff: a copy of the KV cache, instead of reading it all \
again) and reads the last words itself (catch-up); then the chosen tier writes a thought and a \
command (decode), and the game replies with an observation."""

SERVER = """\
A language model answers the requests of other programs. The model lies on disk at several \
precisions, its tiers (quantisation): fewer bits a number make a tier smaller and often faster, \
and a little less reliable. So for every request a small router looks at how much doubt the low \
tier has, and keeps the request there or escalates it to a higher tier. One answer is written at a \
time; the other requests wait.

One request is one step: the low tier reads what is new of the conversation (prefill); the router \
decides (route); a higher tier is handed what the low tier has read (handoff: a copy of the KV \
cache, instead of reading it all again) and reads the last words itself (catch-up); then the \
chosen tier writes the answer (decode)."""

WORDS = """\
Some routers, also the one that comes with the model, decide later: the low tier drafts the whole \
step, and the router reads how sure it was of every token (a word or a piece of one) of this \
draft. A draft that it trusts is the step; else the chosen tier checks it in one go (verify), \
keeps what it would have written itself and goes on from the first token that it rejects.

Circles are tiers: the fuller, the more precise. The strip shows a column a step: as high as the \
doubt, in the colour and with the circle of the tier that wrote it. A circle in reverse was forced \
by you. The line is the limit: doubt that reaches it escalates. Doubt is the router's score \
(entropy in nats, 1 - margin, or a probability) and the limit its threshold; unless doubt is a \
probability, the limit is drawn in the middle and doubt d at d / (d + limit).

Memory is a tier's weights and its KV cache (what the model keeps of the text it has read), which \
has room for the whole context from the beginning.

Times are the model's alone, without the game's. "about" and "estimate" mark what was not measured \
but calculated from this run's own speeds: what the high tier would have taken for the \
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

    def __init__(self, extra: str, about: str, keys: list[tuple[str, str, str]]) -> None:
        """`extra` is said of this app's keys, `about` of what is shown."""
        super().__init__()
        self._texts = (extra, about, WORDS)
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
            yield Static("\n" + "\n\n".join(filter(None, self._texts)), markup=False)
