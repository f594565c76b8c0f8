"""One `edge-router play` as users run it: in a pseudo-terminal of 120 x 40, read to the end.

The clock of a run goes from the trace's header, when the model is loaded and the
game has begun, to its footer. It is read from outside, every 20 ms, so it counts
whatever the program spends, in which thread ever; the trace itself tells decoding alone.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_router.agent.trace import read_trace
from edge_router.errors import UserError

COLUMNS, ROWS = 120, 40
PATIENCE = 900.0  # seconds for one episode
TICK = 0.02
_ESCAPE = re.compile(r"\x1b(\[[0-9;?<>=]*[A-Za-z]|[^\[])")


@dataclass(frozen=True)
class Played:
    """How fast one episode went."""

    tokens: int  # decoded
    tokens_per_second: float  # decode tokens over decode time, as the trace tells them
    episode_s: float  # from the game's beginning to its end, by the clock outside


def play(arguments: Sequence[str], *, with_app: bool) -> Played:
    """Play one episode. Raises `UserError` when it fails or does not come to its end."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.jsonl"
        shown = ["--pace", "0"] if with_app else ["--json"]
        command = [sys.executable, "-m", "edge_router.cli", "play", *arguments, *shown]
        ended = _run([*command, "--trace", str(trace)], trace, quits=with_app)
        if ended.code != 0 or not trace.exists():
            raise UserError(f"edge-router play ended with exit code {ended.code}: {ended.said}")
        finished = read_trace(trace).finished
    if finished is None or finished.reason == "interrupted":
        raise UserError("the episode did not come to its end")
    latency = finished.latency
    return Played(latency.decode_tokens, latency.tokens_per_second, ended.episode_s)


@dataclass
class _Ended:
    code: int = -1
    said: str = ""  # the last line on the terminal
    episode_s: float = 0.0


def _run(command: Sequence[str], trace: Path, *, quits: bool) -> _Ended:
    """Run to the end, reading all that is drawn; presses q when the trace is complete."""
    leader, follower = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    process = subprocess.Popen(
        command,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment | {"TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(follower)
    try:
        return _watch(process, leader, trace, quits=quits)
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def _watch(process: subprocess.Popen[bytes], leader: int, trace: Path, *, quits: bool) -> _Ended:
    give_up = time.monotonic() + PATIENCE
    began = ended = 0.0
    tail = b""
    while process.poll() is None:
        if time.monotonic() >= give_up:
            raise UserError(f"the episode did not end within {PATIENCE:.0f} s")
        try:
            tail = (tail + _read(leader))[-4000:]
        except OSError:  # Linux says EIO when the other end is closed
            process.wait()
        if not began and trace.exists() and trace.stat().st_size:
            began = time.monotonic()
        if not ended and _is_complete(trace):
            ended = time.monotonic()
            if quits:
                os.write(leader, b"q")
    lines = _ESCAPE.sub("", tail.decode("utf-8", "replace")).split("\n")
    said = next((told for line in reversed(lines) if (told := line.strip())), "")
    return _Ended(process.returncode, said, ended - began)


def _read(leader: int) -> bytes:
    """What came within a tick."""
    return os.read(leader, 65536) if select.select([leader], [], [], TICK)[0] else b""


def _is_complete(trace: Path) -> bool:
    if not trace.exists():
        return False
    with trace.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
        return b'{"type":"footer"' in file.read()
