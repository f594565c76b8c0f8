"""Processes that work for this one: how they start and end, and when Ctrl-C is heard.

A process that works for another one ends with it, however the other one ended: Ctrl-C and SIGTERM
reach the one who asked, who ends its workers; by SIGKILL it cannot, and what it started would go on
without anybody who wants the result.

Python is started without looking into the current folder. `python -m` and `python -c` put that
folder before everything else: a random.py or json.py that happens to lie there would be run in
the place of Python's own, and the child would end. `-P` (PYTHONSAFEPATH) leaves it out; installed
packages, editable ones too, are found as always.

A stranger's data is served by a module in a process with limits of time and memory. A limit in our
own process would not hold: C code can be kept busy for hours, and may crash. The child is asked in
lines of JSON and answers in lines of JSON. The kernel ends it when it has computed too long over
one of them, and refuses it too much memory; it ends by itself when its input is closed.

    child = Confined("package.module", "argument")     its main calls `serve(answer, limits)`
    child.ask({"text": "a"})                           what `answer` makes of it
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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


# -- a stranger's data, with limits ---------------------------------------------------------------

Answer = Callable[[dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class ChildLimits:
    """What the child may take for one line, and how much memory it may have in all."""

    seconds: float  # of computing, so that a busy machine does not count
    memory: int  # bytes


class EndedError(Exception):
    """The child has ended instead of answering; `status` is its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the process ended with status {status}")
        self.status = status

    @property
    def too_slow(self) -> bool:
        """Whether it was stopped for computing too long."""
        return self.status == -signal.SIGPROF


class Confined:
    """A child process that runs `module`, started at once. One thread at a time may ask it."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`folder` is its current folder; `environment` is added to our own."""
        self._child = subprocess.Popen(
            python_module(module, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is ours
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
        self._asker = os.getpid()
        self._end = weakref.finalize(self, _end, self._child)

    @property
    def usable(self) -> bool:
        """Whether it was not closed, and is this process's own: two cannot share one pipe."""
        return self._end.alive and self._asker == os.getpid()

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one message. Raises EndedError; whatever it raises, the child is closed."""
        child, line = self._child, b""
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(message).encode() + b"\n")
                child.stdin.flush()
            line = child.stdout.readline()
        finally:
            if not line.endswith(b"\n"):  # ended, or we were interrupted between two lines
                self.close()
        if not line.endswith(b"\n"):
            raise EndedError(child.returncode)
        return dict(json.loads(line))

    def close(self) -> None:
        """End the child. May be called twice."""
        self._end()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Close the pipes and wait; a child that has ended by itself keeps its exit status."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(0.2)
        return
    child.kill()
    child.wait()


# -- the child ------------------------------------------------------------------------------------


def serve(answer: Answer, limits: ChildLimits) -> None:
    """Answer the lines on stdin until it is closed. What else uses stdin or stdout finds nothing.

    C code that waits for a key would wait for ever, and take no time that is limited.
    """
    lines, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for line in lines:
        message = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, limits.seconds)
        reply = answer(message)
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.write(json.dumps(reply).encode() + b"\n")
        out.flush()
