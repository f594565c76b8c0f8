"""A process that works for another one ends with it, however the other one ended.

Ctrl-C and SIGTERM reach the one who asked, who ends its workers. By SIGKILL it cannot, and
what it started would go on without anybody who wants the result.
"""

from __future__ import annotations

import os
import signal
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

    Where Ctrl-C is held back for a moment, so is SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
