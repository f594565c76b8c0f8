"""Keep every result of a long run, one at a time, so that nothing is lost or run twice.

An SQLite file: each finished game is committed by itself, a power cut leaves a whole file, and
two runs may write to it at once. A result is found again by a key over all that decided it.

    with Store(path) as store:
        store.put(key, {"won": True})
        store.get(key)

`StoredWork` does with a crew what the store does not know yet.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from edge_router.errors import UserError
from edge_router.files.data_files import (
    NotUnderstoodError,
    from_plain,
    parse_json,
    require_regular_or_new,
)
from edge_router.files.folders import cache_folder
from edge_router.work.pool import Crash, Crew

SCHEMA: Final = 1  # PRAGMA user_version; another number is another layout


def default_store() -> Path:
    """The user's store of benchmark results."""
    return cache_folder() / "bench.sqlite"


def key_of(parts: Mapping[str, Any]) -> str:
    """A key over everything that decides a result (plain data only)."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def connect(path: Path, what: str, *, autocommit: bool = False) -> sqlite3.Connection:
    """Open or make an SQLite file, its folder too; a writer waits half a minute for another.

    `what` names the file in a sentence ("the store"). Raises UserError when something that is no
    file lies there; the rest is for `database_errors`.
    """
    require_regular_or_new(path, what)
    path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite3.connect(path, timeout=30.0, isolation_level=None if autocommit else "DEFERRED")


@contextmanager
def database_errors(cannot: str) -> Iterator[None]:
    """Turn an error of SQLite or of the disk into a UserError that begins with `cannot`."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last: of SQLite's own words
        raise UserError(f"{cannot}: {error}") from error


class Store:
    """Results by key. Raises UserError when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0  # results that were asked for and cannot be read
        with self._guarded():
            self._db = connect(path, "the store", autocommit=True)
            self._db.text_factory = bytes  # a damaged text must not stop the others
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, what TEXT,"
                    " result TEXT, made TEXT DEFAULT CURRENT_TIMESTAMP)"
                )
                self._db.execute(f"PRAGMA user_version = {SCHEMA}")
        if version not in (0, SCHEMA):
            self._db.close()
            raise UserError(
                f"{path} was written by another version of edge-router; name another file with"
                " --store"
            )

    def get(self, key: str) -> Any | None:
        """The result kept under `key`; None when there is none, or it is damaged and counted."""
        with self._guarded():
            row = self._db.execute("SELECT result FROM results WHERE key = ?", (key,)).fetchone()
        try:
            return parse_json(row[0]) if row else None
        except (ValueError, TypeError):
            self.damaged += 1
            return None

    def put(self, key: str, result: Any, what: str = "") -> None:
        """Keep a result at once; `what` says for people which one it is."""
        with self._guarded():
            self._db.execute(
                "INSERT OR REPLACE INTO results (key, what, result) VALUES (?, ?, ?)",
                (key, what, json.dumps(result, separators=(",", ":"))),
            )

    def __len__(self) -> int:
        with self._guarded():
            (count,) = self._db.execute("SELECT COUNT(*) FROM results").fetchone()
        return int(count)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _guarded(self) -> AbstractContextManager[None]:
        return database_errors(f"the results in {self.path} cannot be used")


# -- work of which every finished piece is kept ---------------------------------------------------


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
