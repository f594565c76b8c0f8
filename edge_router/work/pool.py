"""Run many independent pieces of work in processes beside this one, and survive those that die.

llama.cpp and the game engine are native code: what goes wrong there may end the process, not
raise an exception. So work never runs in the process that keeps the results:

- one at a time: a companion process; the piece it had in hand when it died is the culprit;
- several at once: joblib, with loky on this machine or dask on several. When a worker dies,
  nobody knows which piece killed it, so the pieces that may have been in work are run again
  one at a time; the run then goes on in parallel.

Results come in the order in which they are ready.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from multiprocessing.connection import Connection
from traceback import format_exc
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from edge_router.errors import MachineError, UserError
from edge_router.work.processes import interrupts_held, leave_out_current_folder, work_for

Item = TypeVar("Item")
Result = TypeVar("Result")
# joblib's workers may hold this many pieces each: one in work and one waiting.
_AHEAD: Final = 2
# No room on the disk or in memory, no rights there, too many open files.
_MACHINE_ERRORS: Final = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
)


class StopRunError(UserError):
    """Raised by work: every other piece would fail in the same way, so the run ends."""


@dataclass(frozen=True)
class Crash:
    """What is left of a piece of work that failed: the sentence that says how."""

    reason: str
    stops_the_run: bool = False
    traceback: str = field(default="", compare=False)  # of what nobody foresaw, for developers


@dataclass(frozen=True)
class Backend:
    """Where work runs: `jobs` processes here, or the dask cluster at `scheduler`."""

    jobs: int = 1
    scheduler: str | None = None  # "tcp://10.0.0.1:8786"

    def check(self) -> None:
        """Raise `UserError` where nothing answers at the scheduler's address.

        dask itself tries again until its time is up.
        """
        if self.scheduler is None:
            return
        try:
            address = urlsplit(self.scheduler if "://" in self.scheduler else f"//{self.scheduler}")
            if address.scheme not in ("", "tcp", "tls"):
                return  # dask knows more ways than this
            if not address.hostname or not address.port:
                raise ValueError("write an address like tcp://host:8786")
            socket.create_connection((address.hostname, address.port), timeout=3).close()
        except (OSError, ValueError) as error:
            raise _no_scheduler(self.scheduler, error) from error


class Crew:
    """The processes that do the work; they stay, with what they have loaded, between two runs.

    Also a context manager, which ends them.
    """

    def __init__(self, backend: Backend) -> None:
        leave_out_current_folder()
        self.backend = backend
        self._companion: _Companion | None = None
        self._loky = False  # whether its processes were started

    def run(
        self, work: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[tuple[int, Result | Crash]]:
        """Yield (index, result) of every item; one whose work raises or dies gives a `Crash`.

        `work` must be a function of a module. Close the generator (or let Ctrl-C through it)
        to stop: work in hand is thrown away. Raises UserError when a piece says that all of
        them would fail.
        """
        here = self.backend.scheduler is None
        with closing(self._run(_Guarded(work, here=here), dict(enumerate(items)))) as results:
            for index, result in results:
                if isinstance(result, Crash) and result.stops_the_run:
                    raise UserError(result.reason)
                yield index, result

    def _run(
        self, guarded: _Guarded[Item, Result], pending: dict[int, Item]
    ) -> Generator[tuple[int, Result | Crash]]:
        if self.backend.jobs == 1 and self.backend.scheduler is None:
            yield from self._one_by_one(guarded, pending)
            return
        self._loky |= self.backend.scheduler is None
        with _joblib_backend(self.backend) as jobs:
            while pending:
                try:
                    for index, result in _in_parallel(guarded, pending, jobs):
                        del pending[index]
                        yield index, result
                except _worker_deaths():
                    suspects = dict(islice(pending.items(), _AHEAD * jobs))
                    for index, result in self._one_by_one(guarded, suspects):
                        del pending[index]
                        yield index, result

    def _one_by_one(
        self, guarded: _Guarded[Item, Result], items: dict[int, Item]
    ) -> Generator[tuple[int, Result | Crash]]:
        for index, item in items.items():
            companion = self._companion = self._companion or _Companion()
            try:
                result: tuple[int, Result | Crash] = companion.call(guarded, index, item)
            except EOFError:
                self._companion = None
                if companion.was_told_to_end():  # as this process is, in a moment
                    raise KeyboardInterrupt from None
                result = index, Crash(companion.epitaph())
            yield result

    def close(self) -> None:
        """End the processes, whatever they are doing; a Ctrl-C meanwhile counts afterwards."""
        with interrupts_held():
            if self._companion is not None:
                self._companion.end()
                self._companion = None
            if self._loky:
                _end_loky()
                self._loky = False

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Guarded(Generic[Item, Result]):
    """The work, with exceptions turned into a `Crash` where they happen.

    `here`: on this machine, in a process that this one started.
    """

    def __init__(self, work: Callable[[Item], Result], *, here: bool) -> None:
        self.work = work
        self.home = os.getpid() if here else None

    def __call__(self, index: int, item: Item) -> tuple[int, Result | Crash]:
        if self.home is not None:
            _begin_once(self.home)
        try:
            return index, self.work(item)
        except UserError as error:
            return index, Crash(str(error), isinstance(error, (StopRunError, MachineError)))
        except (OSError, MemoryError) as error:
            return index, Crash(_first_line(error), _is_machines(error))
        except Exception as error:  # whatever it is, the other pieces go on
            return index, Crash(_first_line(error), traceback=format_exc())


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().split("\n")[0]


def _is_machines(error: OSError | MemoryError) -> bool:
    """Whether it is the machine that has no room or rights left, and not the piece of work."""
    return isinstance(error, MemoryError) or error.errno in _MACHINE_ERRORS


@cache
def _begin_once(parent: int) -> None:
    work_for(parent)


# -- several at once ----------------------------------------------------------------------------


def _in_parallel(
    guarded: _Guarded[Item, Result], pending: dict[int, Item], jobs: int
) -> Iterator[tuple[int, Result | Crash]]:
    from joblib import Parallel, delayed

    parallel = Parallel(
        n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=_AHEAD * jobs
    )
    results = parallel(delayed(guarded)(i, item) for i, item in list(pending.items()))
    with warnings.catch_warnings(), closing(results):
        warnings.filterwarnings("ignore", ".*still being processed.*")  # it was meant to end
        yield from results


@contextmanager
def _joblib_backend(backend: Backend) -> Iterator[int]:
    """joblib set up; yields how many pieces run at once."""
    from joblib import parallel_config

    if backend.scheduler is None:
        with parallel_config(backend="loky", n_jobs=backend.jobs):
            yield backend.jobs
        return
    with _dask_client(backend.scheduler) as client:
        workers = sum(w["nthreads"] for w in client.scheduler_info(-1)["workers"].values())
        if not workers:
            raise UserError(f"the dask scheduler at {backend.scheduler} has no workers")
        with parallel_config(backend="dask", n_jobs=workers):
            yield workers


def _dask_client(scheduler: str) -> AbstractContextManager[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise UserError(
            "--dask needs the package distributed; run: pip install 'dask[distributed]'"
        ) from None
    try:
        connect: Callable[..., Any] = Client
        client: AbstractContextManager[Any] = connect(scheduler, timeout=10, set_as_default=True)
        return client
    except (OSError, ValueError) as error:
        raise _no_scheduler(scheduler, error) from error


def _no_scheduler(scheduler: str, error: Exception) -> UserError:
    return UserError(f"there is no dask scheduler at {scheduler}: {error}")


def _end_loky() -> None:
    """End loky's processes, which it keeps for later.

    Else it waits for them when Python ends, and a Ctrl-C then shows as a traceback.
    """
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


def _worker_deaths() -> tuple[type[BaseException], ...]:
    """The exceptions by which joblib's backends tell that a worker died."""
    from joblib.externals.loky.process_executor import BrokenProcessPool

    try:
        from distributed.scheduler import KilledWorker
    except ImportError:
        return (BrokenProcessPool,)
    return (BrokenProcessPool, KilledWorker)


# -- one at a time --------------------------------------------------------------------------------


class _Companion:
    """A process that does one piece of work at a time for this one."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy llama.cpp's threads
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()  # so that its death closes the pipe

    def call(self, guarded: _Guarded[Any, Any], index: int, item: Any) -> Any:
        """Index and result. Raises EOFError when the process dies over it."""
        try:
            self._ours.send((guarded, index, item))
            return self._ours.recv()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError from error

    def was_told_to_end(self) -> bool:
        """Whether somebody sent it SIGTERM; it was then not its work that ended it."""
        self._process.join()
        return self._process.exitcode == -signal.SIGTERM

    def epitaph(self) -> str:
        """How the process ended."""
        self._process.join()
        code = self._process.exitcode or 0
        if code >= 0:
            return f"the process ended with exit code {code}"
        return f"the process was killed by {signal.Signals(-code).name}"

    def end(self) -> None:
        self._ours.close()
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, parent: int) -> None:
    _begin_once(parent)
    try:
        while True:
            guarded, index, item = pipe.recv()
            pipe.send(guarded(index, item))
    except (EOFError, OSError):
        pass  # the one who asked has gone
