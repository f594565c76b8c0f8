"""Standard input, output and error as they are found: closed, full, or of a poor encoding.

A service or a cron job may start a command with any of the three closed. Then Python has None
in `sys`, and the next file that is opened gets the number of standard output, so that whatever
prints would write into it. `mend` puts /dev/null there first. Characters that an encoding lacks
become question marks instead of an exception.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO

_NAMES = ("stdin", "stdout", "stderr")


def mend() -> None:
    """Make all three streams usable. Nothing is done to a stream that is."""
    for number, name in enumerate(_NAMES):
        if not _is_open(number):
            made = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            os.set_inheritable(made, True)
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        if name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def flush() -> None:
    """Write out what is held back. Raises `OSError` when the reader or the room is gone."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def give_up() -> None:
    """Let nothing more be written, as it would fail again when the process ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def shows(stream: TextIO, characters: str) -> bool:
    """Whether the encoding of `stream` has all the characters."""
    try:
        characters.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
