"""The terminal in which `tools.app_clock` plays: 120 x 40, reads all that is drawn, presses keys.

It answers as terminals do that know synchronised updates (DEC mode 2026), and waits without
looking at a clock, so that it takes a core only when there is something to read. What it reads
it throws away: a terminal that shows it takes more, on whatever it draws with.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Generator, Iterator
from dataclasses import asdict

from edge_router.errors import UserError
from edge_router.work.processes import python_module
from tools.app_clock import END, Plan, Step

COLUMNS, ROWS = 120, 40
PATIENCE = 900.0  # seconds without a word
_ASKS, _KNOWS_IT = b"\x1b[?2026$p", b"\x1b[?2026;2$y"
_AGAIN, _QUIT = b"r", b"q"  # the app's keys
_ESCAPE = re.compile(r"\x1b(\[[0-9;?<>=]*[A-Za-z]|[^\[])")


def watch(plan: Plan) -> Iterator[Step]:
    """The steps of the plan's games, each when it has ended. Raises `UserError`."""
    leader, follower = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    reports, report = os.pipe()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    process = subprocess.Popen(
        python_module("tools.app_clock", str(report), json.dumps(asdict(plan))),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        pass_fds=[report],
        env=environment | {"TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(follower)
    os.close(report)
    try:
        said = yield from _read(leader, reports, plan.games)
        if process.wait() != 0:
            raise UserError(f"the app ended with exit code {process.returncode}: {said}")
    finally:
        process.kill()
        process.wait()
        os.close(leader)
        os.close(reports)


def _read(leader: int, reports: int, games: int) -> Generator[Step, None, str]:
    """Read to the end; returns the last line on the terminal."""
    drawn, lines, open_ends = b"", b"", [leader, reports]
    while reports in open_ends:
        ready = select.select(open_ends, [], [], PATIENCE)[0]
        if not ready:
            raise UserError(f"no step has ended for {PATIENCE:.0f} s")
        for end in ready:
            if not (piece := _take(end)):
                open_ends.remove(end)
            elif end == leader:
                if _ASKS in drawn[1 - len(_ASKS) :] + piece:
                    os.write(leader, _KNOWS_IT)
                drawn = (drawn + piece)[-4000:]
            else:
                *whole, lines = (lines + piece).split(b"\n")
                for line in map(bytes.decode, whole):
                    if line == END:
                        games -= 1
                        os.write(leader, _AGAIN if games else _QUIT)
                    elif not line.startswith("{"):
                        raise UserError(line)
                    else:
                        yield Step(**json.loads(line))
    written = _ESCAPE.sub("", drawn.decode("utf-8", "replace")).split("\n")
    return next((line.strip() for line in reversed(written) if line.strip()), "")


def _take(end: int) -> bytes:
    """What there is to read; nothing at the end."""
    try:
        return os.read(end, 65536)
    except OSError:  # Linux says EIO when the other end of a terminal is closed
        return b""
