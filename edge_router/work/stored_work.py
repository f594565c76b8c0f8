"""Work of which every finished piece is kept: what the store knows is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from edge_router.files.data_files import NotUnderstoodError, from_plain
from edge_router.work.pool import Crash, Crew
from edge_router.work.store import Store


class StoredJob(Protocol):
    """A piece of work; `key` is the same for the same outcome, `title` is for people.

    One that `lacks_files` is done again, though its result is known.
    """

    @property
    def title(self) -> str:
        """What it is, for people who look into the store."""
        ...

    @property
    def lacks_files(self) -> bool:
        """Whether it has to be done again though its result is known."""
        ...

    def key(self) -> str:
        """The same for the same outcome, and for no other."""
        ...


class Storable(Protocol):
    """A dataclass of plain data; `crash` is the engine's last words or ""."""

    @property
    def crash(self) -> str:
        """The engine's last words, "" where it lived."""
        ...


Job = TypeVar("Job", bound=StoredJob)
Result = TypeVar("Result", bound=Storable)


@dataclass
class WorkState:
    """How far a run is; handed to the caller after every piece."""

    total: int = 0
    done: int = 0
    from_store: int = 0
    crashed: int = 0


class StoredWork:
    """Does pieces of work with a crew and keeps each result as it comes."""

    def __init__(
        self,
        store: Store,
        crew: Crew,
        tell: Callable[[WorkState], None] = lambda progress: None,
        *,
        crashed_again: bool = False,
    ) -> None:
        self.store, self.crew, self.tell = store, crew, tell
        self.crashed_again = crashed_again
        self.progress = WorkState()

    def results(
        self,
        jobs: Sequence[Job],
        work: Callable[[Job], Result],
        kind: type[Result],
        crashed: Callable[[Job, str], Result],
    ) -> list[Result]:
        """Each job's result: from the store, or done now and stored. `crashed` makes one
        of a job that failed."""
        keys = [job.key() for job in jobs]
        lacking = {key for key, job in zip(keys, jobs, strict=True) if job.lacks_files}
        wanted = [key for key in dict.fromkeys(keys) if key not in lacking]
        known = {k: found for k in wanted if (found := self._stored(k, kind))}
        there = sum(key in known for key in keys)
        self.progress.total += len(jobs)
        self.progress.from_store += there
        self.progress.done += there
        self.tell(self.progress)
        missing = {key: job for key, job in zip(keys, jobs, strict=True) if key not in known}
        todo = list(missing.items())
        for index, outcome in self.crew.run(work, [job for _, job in todo]):
            key, job = todo[index]
            result = crashed(job, outcome.reason) if isinstance(outcome, Crash) else outcome
            self.store.put(key, _plain(result), job.title)
            known[key] = result
            self.progress.done += keys.count(key)
            self.progress.crashed += bool(result.crash)
            self.tell(self.progress)
        return [known[key] for key in keys]

    def _stored(self, key: str, kind: type[Result]) -> Result | None:
        data = self.store.get(key)
        if data is None:
            return None
        try:
            result = from_plain(kind, data)
        except NotUnderstoodError:
            return None  # of a version that kept something else: done again
        return None if result.crash and self.crashed_again else result


def _plain(result: Any) -> dict[str, Any]:
    return asdict(result)
