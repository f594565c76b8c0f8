"""Processes that work for this one: how they start and end, and when Ctrl-C is heard.

A process that works for another one ends with it, however the other one ended: Ctrl-C and SIGTERM
reach the one who asked, who ends its workers; by SIGKILL it cannot, and what it started would go on
without anybody who wants the result.

Python is started without looking into the current folder. `python -m` and `python -c` put that
folder before everything else: a random.py or json.py that happens to lie there would be run in
the place of Python's own, and the child would end. `-P` (PYTHONSAFEPATH) leaves it out; installed
packages, editable ones too, are found as always.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_EVERY: Final = 0.5  # seconds


def work_for(parent: int) -> None:
    """Leave Ctrl-C to the process `parent`, which started this one, and end soon after it.

    The system gives an orphan another parent; this looks for that from a thread of its own.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_outlive, args=(parent,), daemon=True, name="lifeline").start()


def _outlive(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY)
    os._exit(1)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end what runs within as Ctrl-C does, with all that is then tidied up.

    Where Ctrl-C is held back for a moment, so is SIGTERM. It is heard where Ctrl-C is not: a
    script's shell has what it starts in the background ignore Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_ctrl_c(_number: int, _frame: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


# -- moments that must be whole: a step's line in a trace, its end on screen ---------------------


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let a Ctrl-C or SIGTERM that comes within take effect at the end of the block.

    Those that are ignored, or left to the system, stay so. Python tells the main thread alone; in
    other threads this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = {number: handler for number, handler in handlers.items() if callable(handler)}
    pressed = False

    def remember(_number: int, _frame: object) -> None:
        nonlocal pressed
        pressed = True

    for number in heard:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number, before in heard.items():
            signal.signal(number, before)
    if pressed:
        raise KeyboardInterrupt


# -- starting Python -----------------------------------------------------------------------------


def python_module(name: str, *arguments: str) -> list[str]:
    """The command that runs the module `name` in a new process of this Python."""
    return [sys.executable, "-P", "-m", name, *arguments]


def leave_out_current_folder() -> None:
    """Have the processes that multiprocessing and joblib start from now on do the same."""
    os.environ["PYTHONSAFEPATH"] = "1"
