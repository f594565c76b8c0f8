"""Run a stranger's chat template in a process of its own, with limits of time and memory.

A limit in our own process would not hold: one expression of a template can keep C code busy for
hours. The child serves one template for as long as it is wanted: a line of JSON in, one out. The
kernel ends it when it has computed too long over one of them, and refuses it too much memory;
it ends by itself when its input is closed.
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
import weakref
from collections.abc import Mapping
from typing import Any, Final

from edge_router.agent.jinja_template import JinjaTemplate
from edge_router.errors import UserError
from edge_router.work.processes import python_module

SECONDS: Final = 5.0  # of computing, so that a busy machine does not count
MEMORY_BYTES: Final = 512_000_000
TEXT_LENGTH: Final = 4_000_000  # letters: more than any context holds


class ConfinedTemplate:
    """A template in a child process. Raises `UserError` when it is not valid."""

    def __init__(self, source: str, *, seconds: float = SECONDS) -> None:
        self._source = source
        self._seconds = seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._asker = os.getpid()
        with self._lock:
            self._start()

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text that the template makes. Raises `UserError` when it refuses or is stopped."""
        with self._lock:
            ours = self._asker == os.getpid()  # two processes cannot share one pipe
            return self._ask((self._child if ours else None) or self._start(), variables)

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            python_module("edge_router.agent.confined_template", str(self._seconds)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is ours
        )
        weakref.finalize(self, _end, child)
        self._child, self._asker = child, os.getpid()
        self._ask(child, {"source": self._source})
        return child

    def _ask(self, child: subprocess.Popen[bytes], message: Mapping[str, Any]) -> str:
        assert child.stdin is not None
        assert child.stdout is not None
        line = b""
        try:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(message).encode() + b"\n")
                child.stdin.flush()
            line = child.stdout.readline()
        finally:
            if not line.endswith(b"\n"):  # ended, or we were interrupted between two lines
                self._child = None
                _end(child)
        if not line.endswith(b"\n"):
            raise UserError(_why(child.returncode, self._seconds))
        said = json.loads(line)
        if "error" in said:
            raise UserError(said["error"])
        return str(said["text"])


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


def _why(status: int, seconds: float) -> str:
    if status == -signal.SIGPROF:
        return f"the model's chat template computes for more than {seconds:g} s and was stopped"
    return f"the model's chat template ends the process that runs it (status {status})"


# -- the child ------------------------------------------------------------------------------------


def main(seconds: float) -> None:
    """Compile the template of the first line, render it for every other one."""
    with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    template: JinjaTemplate | None = None
    for line in sys.stdin.buffer:
        message = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            if template is None:
                template, text = JinjaTemplate(message["source"]), ""
            else:
                text = template.render(message)
            reply = {"text": text} if len(text) <= TEXT_LENGTH else {"error": _TOO_LONG}
        except UserError as error:
            reply = {"error": _TOO_MUCH if isinstance(error.__cause__, MemoryError) else str(error)}
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


_TOO_LONG: Final = f"the model's chat template writes more than {TEXT_LENGTH} letters"
_TOO_MUCH: Final = (
    f"the model's chat template takes more than {MEMORY_BYTES / 1e6:.0f} MB of memory"
)

if __name__ == "__main__":
    main(float(sys.argv[1]))
