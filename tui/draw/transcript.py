"""The transcript as blocks of lines (opening, steps, end), and the widget that scrolls it.

It is drawn line by line (Textual's line API). While a step is decoded only its own lines are made
anew and only they are sent to the terminal, so that a model is hardly slowed down by being watched.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from rich.style import Style
from rich.text import Text
from textual.events import Resize
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from edge_router.agent.escalation import step_sentence
from tui.draw.lines import CURSOR, TranscriptBlock, both_ends, line, spoken, strip_of, wrapped
from tui.draw.look import sign
from tui.draw.served import request_blocks
from tui.draw.words import milliseconds, outcome
from tui.state.episode import StepView
from tui.state.screenful import Screenful, Status


def blocks(s: Screenful) -> list[TranscriptBlock]:
    """The transcript of what `s` shows, from the top."""
    started = s.episode.started
    if s.service:
        return request_blocks(s)
    problem = _problem(s)
    if started is None:
        return problem
    theme = (s.look.dark, s.count)
    made = [TranscriptBlock(("opening", started.game, theme), lambda width: _opening(s, width))]
    for step in s.episode.steps:
        marked = s.ahead is not None and s.ahead.marked == step.number
        key = (
            *(step.number, len(step.text), step.routed is None, step.finished is None),
            *(marked, step.finished and step.finished.action, step.tier, theme),
        )
        made.append(TranscriptBlock(key, _step_drawer(s, step, marked)))
    if s.episode.finished is not None:
        made.append(
            TranscriptBlock(("end", s.episode.finished, theme), lambda width: _end(s, width))
        )
    return made + problem


def _problem(s: Screenful) -> list[TranscriptBlock]:
    if s.status is not Status.FAILED:
        return []
    sentence = Text(f"✗ {s.problem}", f"bold {s.look.bad}")
    advice = Text("Pick another game (g), try again (r), or quit (q).", s.look.soft)
    return [
        TranscriptBlock(
            ("problem", s.problem, s.look.dark),
            lambda width: [*wrapped(sentence, width), line(), *wrapped(advice, width)],
        )
    ]


def _opening(s: Screenful, width: int) -> list[Text]:
    assert s.episode.started is not None
    started = s.episode.started
    return [
        *spoken(s, "goal", Text(started.goal, "bold"), width, ""),
        *spoken(s, "game", Text(started.observation, s.look.soft), width, ""),
        line(),
    ]


def _step_drawer(s: Screenful, step: StepView, marked: bool) -> Callable[[int], list[Text]]:
    return lambda width: [*_dropped(s, step, width), *_step(s, step, marked, width)]


def _dropped(s: Screenful, step: StepView, width: int) -> list[Text]:
    if step.dropped is None:
        return []
    note = f"(the context is full: {step.dropped.turns} old turns are forgotten)"
    return [*wrapped(Text(note, s.look.soft), width), line()]


def _step(s: Screenful, step: StepView, marked: bool, width: int) -> list[Text]:
    if step.routed is None:
        return [line((f"{step.number + 1:3d}  ", "bold"), ("reading ...", s.look.soft)), line()]
    colour = s.colour(step.routed.tier_index)
    who = f" {sign(step.routed.tier_index, s.count)} {step.routed.tier} "
    left = line((f"{step.number + 1:3d} ", "bold"), (who, f"bold reverse {colour}"))
    if step.routed.forced:
        left.append(" forced", "bold")
    if marked:
        left.append(" ≠ here the runs part", f"bold {s.look.bad}")
    took = milliseconds(step.finished.latency.model_ms) if step.finished else "..."
    lines = [both_ends(left, line((took, s.look.soft)), width)]
    if step.routed.draft and step.routed.tier_index > 0:
        draft = " / ".join(step.routed.draft.split("\n")).strip()
        drafted = Text(f"{s.episode.tiers[0]} drafted: {draft}", s.look.soft)
        lines += spoken(s, "draft", drafted, width, colour)
    lines += _said(s, step, colour, width)
    if step.finished is not None and (compared := step_sentence(step.finished)):
        lines += spoken(s, "", Text(compared, s.look.strong), width, colour)
    if step.finished is not None:
        reply = step.finished.observation
        style = s.look.bad if step.finished.refused else s.look.soft
        shown = f"✗ {reply}" if step.finished.refused else reply
        lines += spoken(s, "game", Text(shown, style), width, colour)
    return [*lines, line()]


def _said(s: Screenful, step: StepView, colour: str, width: int) -> list[Text]:
    """What the model wrote, as it stands; a cursor while it writes."""
    text = step.text.strip()
    lines: list[Text] = []
    written = text.split("\n") if text else []
    for number, raw in enumerate(written):
        is_action = raw.lstrip().startswith(">")
        shown = Text(raw.strip(), f"bold {s.look.strong}" if is_action else "italic")
        if step.finished is None and number == len(written) - 1:
            shown.append(CURSOR, colour)
        lines += spoken(s, "does" if is_action else "thinks", shown, width, colour)
    if step.finished is None and not written:
        lines += spoken(s, "thinks", Text(CURSOR, colour), width, colour)
    action = step.finished.action if step.finished else None
    if action is not None and (not action or action not in text.rpartition("\n")[2]):
        given = Text(f"(command: {action or 'none'})", s.look.soft)
        lines += spoken(s, "does", given, width, colour)
    return lines


def _end(s: Screenful, width: int) -> list[Text]:
    assert s.episode.finished is not None
    good = s.episode.finished.won
    style = f"bold {s.look.good if good else s.look.bad}"
    mark = "✓ " if good else "✗ "
    return wrapped(Text(mark + outcome(s.episode.finished, s.episode), style), width)


# -- the widget -----------------------------------------------------------------------------------

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
