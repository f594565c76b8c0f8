"""Let Ctrl-C end a decode at once, which may take half a minute for a long prompt.

Python calls its signal handlers between two of its own instructions, so not before llama.cpp
returns. llama.cpp asks a callback at every node of its graph whether to stop. A callback in
Python would cost a microsecond or two a node and could not raise the interrupt reliably; here
it is libc's `atoi` on a text of one digit, "1" for stop. A thread sets it when the interpreter
writes a signal's number to its wake-up descriptor, which happens while llama.cpp computes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

ABORTED: Final = 2  # what llama_decode returns then
_lost = False  # a KeyboardInterrupt was raised where nobody could hear it
_text: Final = ctypes.create_string_buffer(b"0")
_here = threading.local()  # `asks`: what the decodes of a thread ask before they begin


def set_stop(stop: bool) -> None:
    """Let the decodes of this process end, or clear that for the next one."""
    _text[0] = b"1" if stop else b"0"


@contextmanager
def asking(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask` before each batch that this thread decodes; what it raises ends the decode.

    So a text of which nobody wants the rest ends within a token, or within a batch of its prompt.
    Within another one both ask, the outer one first.
    """
    asks = getattr(_here, "asks", ())
    _here.asks = (*asks, ask)
    try:
        yield
    finally:
        _here.asks = asks


def begin() -> None:
    """Before a decode: clear the flag and `ask`.

    Raises a KeyboardInterrupt that was lost, see `keep`.
    """
    global _lost
    set_stop(False)
    for ask in getattr(_here, "asks", ()):
        ask()
    if _lost:
        _lost = False
        raise KeyboardInterrupt


def end_or_go_on() -> None:
    """After a decode that was stopped: raise KeyboardInterrupt, unless a handler takes care of it.

    Python's own handler has been called by then, and what it raised is lost as often as not.
    """
    begin()
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN):
        raise KeyboardInterrupt  # where Ctrl-C is ignored, SIGTERM has stopped it


def keep(callback: object) -> None:
    """Let a Ctrl-C that is raised within `callback` end the next decode instead of being lost.

    ctypes ignores what is raised in a callback and prints it.
    """
    before = sys.unraisablehook

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        global _lost
        if ignored.exc_type is KeyboardInterrupt and ignored.object == callback:
            _lost = True
        else:
            before(ignored)

    sys.unraisablehook = hook


def watch(api: Any, context: int) -> None:
    """Let `context`'s decodes look at the flag, and signals set it."""
    _listen_once()
    asks = ctypes.cast(_atoi(), api.ggml_abort_callback)
    api.llama_set_abort_callback(context, asks, ctypes.cast(_text, ctypes.c_void_p))


@cache
def _atoi() -> Any:
    return ctypes.CDLL(None).atoi


def _listen_once() -> None:
    # Only the main thread may ask for the descriptor; elsewhere (the app's player) a decode
    # does not keep Python's handlers waiting.
    if threading.current_thread() is threading.main_thread():
        _listen()


@cache
def _listen() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    if before != -1:  # an event loop's: it hears the signals itself
        signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)
        return
    threading.Thread(target=_pass_on, args=(read,), name="stop-flag", daemon=True).start()


def _pass_on(read: int) -> None:
    while numbers := os.read(read, 64):
        if signal.SIGINT in numbers or signal.SIGTERM in numbers:
            set_stop(True)
