"""Progress of long work on stderr: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol

EVERY = 15.0  # seconds between lines that are not shown on a terminal

Step = Callable[[], None]


class Progress(Protocol):
    """Called when work begins: what it is, how much, and how much of it was done before."""

    def __call__(self, what: str, total: int, done: int) -> Step: ...


def silent(what: str, total: int, done: int) -> Step:
    return lambda: None


class StderrProgress:
    """One line a piece of work, rewritten on a terminal and repeated elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def __call__(self, what: str, total: int, done: int) -> Step:
        started, first, last, at = time.monotonic(), done, 0.0, done
        if done >= total:
            print(f"{what}: {total} done before", file=sys.stderr)
            return lambda: None

        def step() -> None:
            nonlocal last, at
            at += 1
            now = time.monotonic()
            if at < total and now - last < (0.2 if self._live else EVERY):
                return
            last = now
            left = (now - started) / (at - first) * (total - at)
            line = f"{what}: {at}/{total}, {_clock(now - started)} gone, {_clock(left)} to go"
            end = "\r" if self._live and at < total else "\n"
            print(f"{line}\x1b[K" if self._live else line, end=end, file=sys.stderr, flush=True)

        return step


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02d}"
