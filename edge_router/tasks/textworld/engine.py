"""TextWorld in a child process, as its owner sees it.

The child needs a second or two to load, and serves one game after the other. A game is a
stranger's program in an interpreter written in C: what it breaks is the child.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any, Final

from edge_router.errors import MachineError
from edge_router.tasks.textworld.engine_process import SECONDS
from edge_router.work.processes import Confined, EndedError

_CHILD: Final = "edge_router.tasks.textworld.engine_process"
_LOCK: Final = threading.Lock()
_idle: Final[list[Engine]] = []


class RejectedError(Exception):
    """The engine cannot play a game; `str()` says why, to follow a colon."""


class Engine:
    """A child process with TextWorld loaded, in a temporary folder of its own."""

    def __init__(self) -> None:
        """Start it, and do not wait until it is ready. Raises MachineError."""
        self._child = start(_CHILD)

    @property
    def usable(self) -> bool:
        return self._child.usable

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """What the child answers. Raises RejectedError, MachineError."""
        try:
            said = self._child.ask(message)
        except EndedError as error:
            raise RejectedError(_why(error)) from error
        if "machine" in said:
            raise MachineError(
                f"TextWorld cannot be used on this machine ({said['machine']});"
                " install edge-router again."
            )
        if "error" in said:
            raise RejectedError(said["error"])
        return said


def start(module: str) -> Confined:
    """A child that runs `module`; its folder goes with it. Raises MachineError."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="edge-router-textworld-"))
        child = Confined(
            module,
            folder=folder,
            # The order of sets is the order of some choices; threads would each reserve memory.
            environment={
                "TMPDIR": str(folder),
                "PYTHONHASHSEED": "0",
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
        )
    except OSError as error:
        raise MachineError(f"TextWorld cannot be started: {error}.") from error
    weakref.finalize(child, shutil.rmtree, folder, ignore_errors=True)
    return child


def take() -> Engine:
    """An engine for one game: an idle one, else a new one. Raises MachineError."""
    with _LOCK:
        while _idle:
            engine = _idle.pop()
            if engine.usable:
                return engine
    return Engine()


def give_back(engine: Engine) -> None:
    """The engine of a game that is over, for the next game."""
    if engine.usable:
        with _LOCK:
            _idle.append(engine)


def load_ahead() -> None:
    """Start an engine for the next game; a fault is told by the `take` that meets it again."""
    try:
        give_back(take())
    except MachineError:
        return


def _why(error: EndedError) -> str:
    if error.too_slow:
        return f"it computes for more than {SECONDS:g} s over one command and was stopped"
    return f"it ends the process that plays it (status {error.status})"
