"""A module that serves a stranger's data in a process of its own, with limits of time and memory.

A limit in our own process would not hold: C code can be kept busy for hours, and may crash. The
child is asked in lines of JSON and answers in lines of JSON. The kernel ends it when it has
computed too long over one of them, and refuses it too much memory; it ends by itself when its
input is closed.

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
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_router.work.processes import python_module

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
