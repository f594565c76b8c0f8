"""Run commands in a real pseudo-terminal: press keys, resize it, look at what is left."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ASKS, KNOWS_IT = b"\x1b[?2026$p", "\x1b[?2026;2$y"  # synchronised updates (DEC mode 2026)


class Terminal:
    """A process on a pseudo-terminal of 120 x 40; `output` is all that it wrote.

    `synchronises`: it knows synchronised updates, and says so as soon as it reads the question.
    """

    synchronises = False

    def __init__(self, command: Sequence[str], cwd: Path, stderr: int | None = None) -> None:
        self._leader, follower = pty.openpty()
        self.resize(120, 40)
        self.before = termios.tcgetattr(follower)
        self._follower = follower
        self.output = b""
        environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CI")}
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=follower,
            stdout=follower,
            stderr=follower if stderr is None else stderr,
            env=environment | {"TERM": "xterm-256color"},
            start_new_session=True,
        )

    def press(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        """Read what the process writes until `condition()` holds."""
        give_up = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up, self.output[-2000:]
            self._read(0.02)

    def wait(self, seconds: float = 300.0) -> int:
        """Read to the end of the process; returns its exit code."""
        self.read_until(lambda: self.process.poll() is not None, seconds)
        self._read(0.05)
        return self.process.returncode

    def attributes(self) -> list[Any]:
        """How the terminal is set now; `before` is how it was."""
        return termios.tcgetattr(self._follower)

    def hang_up(self) -> None:
        """Close the terminal, as closing its window does."""
        for descriptor in (self._leader, self._follower):
            if descriptor >= 0:
                os.close(descriptor)
        self._leader = self._follower = -1

    def _read(self, seconds: float) -> None:
        while self._leader >= 0 and select.select([self._leader], [], [], seconds)[0]:
            asked = self.output.count(ASKS)
            self.output += os.read(self._leader, 65536)
            if self.synchronises and self.output.count(ASKS) > asked:
                self.press(KNOWS_IT)
            seconds = 0.0


@contextmanager
def terminal(*command: str, cwd: Path, stderr: int | None = None) -> Iterator[Terminal]:
    """`edge-router COMMAND`; killed at the end if it still runs, and the terminal closed."""
    with program(
        str(Path(sys.executable).with_name("edge-router")), *command, cwd=cwd, stderr=stderr
    ) as made:
        yield made


@contextmanager
def program(*command: str, cwd: Path, stderr: int | None = None) -> Iterator[Terminal]:
    """Any program, in the same way."""
    made = Terminal(command, cwd, stderr)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        made.hang_up()
