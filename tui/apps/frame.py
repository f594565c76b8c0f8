"""What the live app, the replay and the comparison have in common: keys, themes, screenshots."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.dom import DOMNode
from textual.events import Key as KeyPressed
from textual.filter import ANSIToTruecolor, LineFilter
from textual.notifications import SeverityLevel
from textual.screen import ModalScreen, Screen

from edge_router.screen.printable import clean
from tui.apps.help import GAME, HelpScreen
from tui.draw.look import Look
from tui.draw.panels import Head, KeyBar, Note, Panel, PrecisionStrip, SoFar, Times, Why
from tui.draw.transcript import Transcript
from tui.state.screenful import Screenful

Key = tuple[str, str, str]  # what is written on a key, what it does, the action
ENDED_BY_SIGNAL = 128
ANSWER_SECONDS = 4.0  # how long the answer to a key is shown


class Frame(App[int]):
    """The app without anything to show; its exit code is what `run` returns."""

    CSS_PATH = "app.tcss"
    TITLE = "edge-router"
    ENABLE_COMMAND_PALETTE = True
    AUTO_FOCUS = None
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall"), (40, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "toggle_dark", "Dark or light"),
        Binding("s", "save_svg", "Save a picture"),
        Binding("question_mark", "help", "Help"),
        Binding("up", "scroll(-1)", "Scroll the transcript up", show=False),
        Binding("down", "scroll(1)", "Scroll the transcript down", show=False),
        Binding("pageup", "scroll(-12)", "A page up", show=False),
        Binding("pagedown", "scroll(12)", "A page down", show=False),
        Binding("q", "leave", "Quit"),
        Binding("ctrl+c,ctrl+q", "leave", "Quit", show=False, priority=True),
    ]
    COMMON_KEYS: ClassVar[list[Key]] = [
        ("↑↓", "scroll", "app.scroll(-1)"),
        ("^p", "menu", "app.command_palette"),
        ("?", "help", "app.help"),
        ("q", "quit", "app.leave"),
    ]
    KEYS: ClassVar[list[Key]] = []
    RARE_KEYS: ClassVar[list[Key]] = [  # not in the bar at the bottom, but in help and menu
        ("s", "picture (SVG)", "app.save_svg"),
        ("d", "dark or light", "app.toggle_dark"),
    ]
    HELP = ""
    ABOUT = GAME
    PLACE = "here"  # where a key that means nothing was pressed

    def __init__(self) -> None:
        super().__init__()
        self._over = threading.Event()

    def compose(self) -> ComposeResult:
        yield from panels([*self.KEYS, *self.COMMON_KEYS])

    def on_mount(self) -> None:
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.leave, ENDED_BY_SIGNAL + number)
            signal.signal(signal.SIGHUP, lambda _number, _frame: self._hang_up())
        if not self.is_headless:
            threading.Thread(target=self._watch_terminal, name="hang-up", daemon=True).start()
        self.theme_changed_signal.subscribe(self, lambda _theme: self.show())

    def _watch_terminal(self) -> None:
        """Notice a terminal that goes without a signal, as that of a process in its own session.

        Not in the screen's thread: that one may be stuck in writing to the terminal.
        """
        assert sys.__stderr__ is not None
        terminal = select.poll()
        terminal.register(sys.__stderr__.fileno(), 0)  # a hang-up is reported always
        while not self._over.wait(0.0):
            if terminal.poll(500):
                self._hang_up()
                return

    def on_unmount(self) -> None:
        self._over.set()
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def _hang_up(self) -> None:
        """The terminal is gone: bring the work to its end and go without drawing.

        Textual's own way out would wait for ever: its writing thread has died of the terminal's
        end, and the queue that it no longer empties is full.
        """

        def end() -> None:
            self.finish_work()
            os._exit(ENDED_BY_SIGNAL + signal.SIGHUP)

        threading.Thread(target=end, name="end").start()

    def finish_work(self) -> None:
        """End what goes on beside the screen; may block."""

    def screenful(self) -> Screenful:
        """What is to be shown now."""
        raise NotImplementedError

    def show(self, *, text_only: bool = False) -> None:
        """Bring the screen up to date; `text_only`: nothing but the decoded text is new."""
        if self.screen_stack:
            draw_in(self.screen_stack[0], self.screenful(), text_only=text_only)

    def say(self, sentence: str, *, severity: SeverityLevel = "information") -> None:
        """Answer a key, in place of the answer to the one before."""
        self.clear_notifications()
        self.notify(clean(sentence), severity=severity, timeout=ANSWER_SECONDS, markup=False)

    def on_key(self, event: KeyPressed) -> None:
        """Say that a key means nothing here; the keys that do are bound."""
        if event.key in self.screen.active_bindings or isinstance(self.screen, ModalScreen):
            return
        name = event.character if event.is_printable and event.character else event.key
        self.say(f"The key {name} does nothing {self.PLACE}; ? shows all keys.")

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """All that the keys do, and Textual's themes."""
        listed = set()
        for node, binding, _, _ in screen.active_bindings.values():
            if binding.show and binding.action not in listed:
                listed.add(binding.action)
                press = partial(self.run_action, binding.action, node)
                key = f"Key: {self.get_key_display(binding)}"
                yield SystemCommand(binding.description, key, press)
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Without the one that looks for the terminal's own colours in every line of every redraw:
        the screen below help, picker and palette has none.
        """
        filters = super().get_line_filters()
        if len(self.screen_stack) > 1:
            return filters
        return [f for f in filters if not isinstance(f, ANSIToTruecolor)]

    @property
    def look(self) -> Look:
        return Look(dark=self.current_theme.dark)

    # -- actions ----------------------------------------------------------------

    def action_leave(self) -> None:
        self.leave(0)

    def leave(self, code: int) -> None:
        """End the app with an exit code."""
        self.exit(code)

    def action_scroll(self, lines: int) -> None:
        transcripts = list(self.screen.query(Transcript))
        before = [transcript.scroll_offset.y for transcript in transcripts]
        for transcript in transcripts:
            transcript.scroll_relative(y=lines, animate=False, immediate=True)
        if before == [transcript.scroll_offset.y for transcript in transcripts]:
            self.say(f"The transcript {'begins' if lines < 0 else 'ends'} here.")

    def action_toggle_dark(self) -> None:
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"

    def action_save_svg(self) -> None:
        path = Path(f"edge-router-{stamp()}.svg")
        try:
            path.write_text(self.export_screenshot(title=self.TITLE), encoding="utf-8")
        except OSError as error:
            self.say(f"The picture cannot be written: {error.strerror}.", severity="error")
        else:
            self.say(f"Picture saved: {path}")

    def action_help(self) -> None:
        if not isinstance(self.screen, HelpScreen):
            keys = [*self.KEYS, *self.COMMON_KEYS, *self.RARE_KEYS]
            self.push_screen(HelpScreen(self.HELP, self.ABOUT, keys))


def panels(keys: list[Key]) -> ComposeResult:
    """What one run is shown on, from top to bottom."""
    yield Head(id="head")
    yield PrecisionStrip(id="strip")
    with Horizontal(id="middle"):
        yield Transcript(id="transcript")
        with Vertical(id="side"):
            yield Why(id="why")
            yield Times(id="times")
            yield SoFar(id="sofar")
    yield Note(id="note")
    yield KeyBar(keys, id="keys")


def draw_in(node: DOMNode, s: Screenful, *, text_only: bool = False) -> None:
    """Bring the panels within `node` up to date, as many as there are.

    There may be none: Textual takes a closing screen's panels away before it stops the timers
    that draw on them.
    """
    for transcript in node.query(Transcript):
        transcript.show(s)
    if not text_only:
        for panel in node.query(Panel):
            panel.show(s)


def stamp() -> str:
    """Now, for file names."""
    return datetime.now().strftime("%Y%m%d-%H%M%S")
