"""How far long work is, on stderr, with the time left: a bar on a terminal, else a line at times.

with ShownProgress() as progress:
    step = progress("games", total=60, done=20)  # 20 were done before
    for game in games:
        play(game)
        step()
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from edge_router.screen.printable import one_line, say

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

EVERY: Final = 15.0  # seconds between lines that are not shown on a terminal

Step = Callable[[], None]


class Progress(Protocol):
    """Called when work begins: what it is, how much, and how much of it was done before."""

    def __call__(self, what: str, total: int, done: int = 0) -> Step: ...


def silent(what: str, total: int, done: int = 0) -> Step:
    """Progress that nobody sees."""
    return lambda: None


class Bar:
    """One piece of work; call it after each step."""

    def __init__(
        self,
        show: Callable[[Bar, bool], None],
        what: str,
        total: int,
        done: int,
        now: float,
        unit: str = "",
    ) -> None:
        self._show = show
        self.unit = unit
        self.what, self.total, self.done = what, total, done
        self.known, self.started = done, now  # what was done before says nothing about speed

    def __call__(self) -> None:
        self.at(self.done + 1)

    def at(
        self,
        done: int,
        *,
        what: str | None = None,
        total: int | None = None,
        known: int | None = None,
    ) -> None:
        """So much is done now, `known` of it without work; the rest may have become more."""
        self.done = done
        self.what = self.what if what is None else what
        self.total = self.total if total is None else total
        self.known = self.known if known is None else known
        self._show(self, done >= self.total)

    def short_of_end(self, done: int) -> None:
        """So much is done now of what was guessed; `end` says when it is all."""
        self.at(min(done, self.total - 1))

    def end(self) -> None:
        """All is done."""
        if self.done < self.total:
            self.at(self.total)

    @property
    def count(self) -> str:
        """ "3/8", or of bytes "1.5/20.0 MB"."""
        if self.unit == "B":
            return f"{self.done / 1e6:.1f}/{self.total / 1e6:.1f} MB"
        return f"{self.done}/{self.total}"

    def left(self, now: float) -> str:
        """ "0:12 gone, 1:40 to go", the mean of the steps so far taken for those to come."""
        gone, taken = now - self.started, self.done - self.known
        if self.done >= self.total:
            return f"{clock(gone)} gone"
        if taken < 1:
            return f"{clock(gone)} gone, -:-- to go"
        return f"{clock(gone)} gone, {clock(gone / taken * (self.total - self.done))} to go"


class ShownProgress:
    """Bars on stderr; also a context manager, which takes them away. `now` is in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._bars: RichProgress | None = None
        self._tasks: dict[int, Any] = {}
        self._last = 0.0
        self._live = bool(sys.stderr) and sys.stderr.isatty()

    def __call__(self, what: str, total: int, done: int = 0, unit: str = "") -> Bar:
        """A bar for work of `total` steps, or of bytes where the unit is "B"."""
        bar = Bar(self._shown, one_line(what), total, done, self._now(), unit)
        self._last = self._now()
        if done >= total > 0:
            self.note(f"{bar.what}: {total} done before")
        elif self._live:
            self._shown(bar, False)
        return bar

    def note(self, text: str) -> None:
        """A line for people, above the bar."""
        if self._bars is None:
            say(text, err=True)
            return
        self._bars.console.print(one_line(text), markup=False, highlight=False)

    def _shown(self, bar: Bar, ended: bool) -> None:
        if self._live and not ended:
            self._draw(bar)
        elif ended or self._now() - self._last >= EVERY:
            self.close()
            self._last = self._now()
            say(f"{bar.what}: {bar.count}, {bar.left(self._now())}", err=True)

    def _draw(self, bar: Bar) -> None:
        bars = self._started()
        if id(bar) not in self._tasks:
            for task in self._tasks.values():
                bars.remove_task(task)
            self._tasks = {id(bar): bars.add_task(bar.what, total=bar.total, count="", left="")}
        bars.update(
            self._tasks[id(bar)],
            description=bar.what,
            total=bar.total,
            completed=bar.done,
            count=bar.count,
            left=bar.left(self._now()),
        )

    def _started(self) -> RichProgress:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=16),
                TextColumn("{task.fields[count]}", markup=False),
                TextColumn("{task.fields[left]}"),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,  # what is printed there is for a file or another program
            )
            self._bars.start()
        return self._bars

    def close(self) -> None:
        """Take the bars off the screen."""
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._tasks = None, {}

    def __enter__(self) -> ShownProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def clock(seconds: float) -> str:
    """ "1:05", "2:03:00": minutes and seconds, with hours where there are some."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
