"""Record an episode as JSONL, and read it back: enough to replay it without a model.

The first line is a header (format, versions, machine, and what `EpisodeStarted`
says: fingerprints, seed, settings), then comes a line a step, then a footer
with the outcome. Each line is written in one piece when it is complete, so an
episode that is cut off leaves every finished step behind. `read_trace` reads
up to the first line that is damaged or missing and says so in `Trace.note`.

Format 4 tells what became of drafts: what was verified, accepted and rewritten. An older trace
has no such steps.

Format 3 calls the tiers low and high. What older formats call otherwise, in the features' names and
in a router's reasons, is read in the words of today.

Format 2 keeps the command of every draft. Format 1 kept the draft's text only, from which
`read_trace` takes the command, so that an older trace says the same.

`replay` plays a trace through the listeners of a live run, at its own pace or step by step.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from edge_router import __version__
from edge_router.agent.escalation import count
from edge_router.agent.events import (
    EpisodeFinished,
    EpisodeStarted,
    Event,
    Listener,
    StepCollector,
    StepEvents,
    TextDecoded,
)
from edge_router.engine.machine import cpu_model, physical_cores
from edge_router.errors import UserError
from edge_router.files.data_files import (
    NotUnderstoodError,
    from_plain,
    parse_json,
    read_file,
    require_regular_or_new,
)
from edge_router.router.feature_table import RENAMED
from edge_router.tasks.parse import parse_step

FORMAT: Final = "edge-router/trace/4"
_WITHOUT_VERIFYING: Final = "edge-router/trace/3"
_OLD_WORDS: Final = "edge-router/trace/2"
_TEXT_ONLY: Final = "edge-router/trace/1"
READS: Final = (_TEXT_ONLY, _OLD_WORDS, _WITHOUT_VERIFYING, FORMAT)
_MAX_BYTES: Final = 64 << 20
_NAMES_NOW: Final = {old: new for names in RENAMED.values() for old, new in names.items()}
_REASONS_NOW: Final = {
    "p(dearer)": "p(escalate)",
    "always the cheapest": "always the low tier",
    "always the dearest": "always the high tier",
}
_FAMILY: Final = FORMAT.rpartition("/")[0]


class TraceWriter:
    """A listener that writes `path`; an older file there is replaced when the episode starts.

    Raises `UserError` at once when the path cannot be written, and later when
    the disk is full. Also a context manager, which closes the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._steps = StepCollector()
        self._file: int | None = None
        _require_writable(path)

    def __call__(self, event: Event) -> None:
        step = self._steps(event)
        if step is not None:
            self._write({"type": "step", **asdict(step)})
        elif isinstance(event, EpisodeStarted):
            self._open()
            self._write({"type": "header", **circumstances(), "episode": asdict(event)})
        elif isinstance(event, EpisodeFinished) and self._file is not None:
            # without a file the episode was interrupted before it had started
            self._write({"type": "footer", "episode": asdict(event)})
            self.close()

    def _open(self) -> None:
        self.close()
        try:
            self._file = _opened_alone(self._path)
            if stat.S_ISREG(os.fstat(self._file).st_mode):
                os.ftruncate(self._file, 0)
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            raise ValueError("an episode must start before its steps can be written")
        data = (json.dumps(line, separators=(",", ":")) + "\n").encode()
        try:
            while data:  # one call, so that Ctrl-C falls between lines and not into one
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def close(self) -> None:
        """Close the file; what was written stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def circumstances() -> dict[str, Any]:
    """Where and with what a trace was made; asks no library that would have to be loaded."""
    return {
        "format": FORMAT,
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "llama_cpp_python": metadata.version("llama-cpp-python"),
        "system": platform.platform(),
        "cpu": cpu_model(),
        "cores": physical_cores(),
    }


def _require_writable(path: Path) -> None:
    """Open for appending, which leaves an older trace as it is; no new file stays behind."""
    require_regular_or_new(path, "the trace", or_terminal=True)
    try:
        is_new = not os.path.lexists(path)
        os.close(_opened_alone(path))
        if is_new:
            path.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error
    except ValueError as error:  # a NUL byte in the name
        raise UserError(f"the trace cannot be written: {path!s:.80} is no file name") from error


def _opened_alone(path: Path) -> int:
    """A descriptor to write `path`, which no other run may be writing. Raises `UserError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(
            f"another run is writing the trace {path}; wait for it or name another file"
        ) from error
    except OSError:  # a file system without locks
        return descriptor
    return descriptor


def _unwritable(path: Path, error: OSError) -> UserError:
    if error.errno in (errno.ENAMETOOLONG, errno.EACCES):
        return UserError(f"the trace {path!s:.80} cannot be written: {error.strerror}")
    if path.is_dir():
        return UserError(f"the trace {path} cannot be written: it is a folder; name a file")
    if not path.parent.is_dir():
        return UserError(f"the trace {path} cannot be written: make the folder {path.parent} first")
    return UserError(f"the trace {path} cannot be written: {error.strerror}")


@dataclass(frozen=True)
class Trace:
    """A trace as read: `finished` is None and `note` says why when it breaks off."""

    started: EpisodeStarted
    steps: tuple[StepEvents, ...]
    finished: EpisodeFinished | None
    note: str = ""


def trace_of(events: Sequence[Event]) -> Trace:
    """The trace of an episode that was heard, from its start on."""
    started, *rest = events
    if not isinstance(started, EpisodeStarted):
        raise ValueError("an episode begins with its start")
    collect = StepCollector()
    steps = tuple(step for step in map(collect, rest) if step is not None)
    finished = next((event for event in rest if isinstance(event, EpisodeFinished)), None)
    return Trace(started, steps, finished)


def read_trace(path: Path) -> Trace:
    """Read a trace up to its end or the first damaged line. Raises `UserError` if it is none."""
    lines = read_file(path, "a trace", limit=_MAX_BYTES).split(b"\n")
    started, written_as = _read_header(path, lines[0])
    steps: list[StepEvents] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line and number == len(lines):
            note = f"the trace has no end: the run was cut short after {_count(steps)}"
            return Trace(started, tuple(steps), None, note)
        try:
            read = _read_line(line, len(steps))
        except NotUnderstoodError:
            note = f"the trace breaks off after {_count(steps)}: line {number} is damaged"
            return Trace(started, tuple(steps), None, note)
        if isinstance(read, EpisodeFinished):
            if written_as == _TEXT_ONLY:
                read = replace(read, escalations=count([step.finished for step in steps]))
            return Trace(started, tuple(steps), read)
        if written_as == _TEXT_ONLY:
            read = _with_draft_action(read)
        renamed = written_as in (_TEXT_ONLY, _OLD_WORDS)
        steps.append(_in_words_of_today(read) if renamed else read)
    note = f"the trace breaks off after {_count(steps)}"
    return Trace(started, tuple(steps), None, note)


def _count(steps: list[StepEvents]) -> str:
    return "1 step" if len(steps) == 1 else f"{len(steps)} steps"


def _with_draft_action(step: StepEvents) -> StepEvents:
    """A step of the older format, with the command that its draft's text gives."""
    if step.routed.decide_at != "draft":
        return step
    action = parse_step(step.routed.draft).action
    return replace(step, finished=replace(step.finished, draft_action=action))


def _in_words_of_today(step: StepEvents) -> StepEvents:
    """A step of an older format, with its features and its router's reason renamed."""
    features = {_NAMES_NOW.get(name, name): value for name, value in step.routed.features.items()}
    reason = step.routed.reason
    for old, new in _REASONS_NOW.items():
        reason = reason.replace(old, new)
    return replace(step, routed=replace(step.routed, features=features, reason=reason))


def _read_header(path: Path, line: bytes) -> tuple[EpisodeStarted, str]:
    """What the header says, and the format it is written in."""
    if not line.strip():
        raise UserError(f"{path} is no trace: it is empty or begins with an empty line")
    try:
        data = _object(line)
        kind = data.get("format")
        if isinstance(kind, str) and kind not in READS and kind.startswith(f"{_FAMILY}/"):
            raise UserError(f"{path} is a trace of the format {kind}, this version reads {FORMAT}")
        if kind not in READS:
            raise NotUnderstoodError("another format")
        return from_plain(EpisodeStarted, data.get("episode")), kind
    except NotUnderstoodError as error:
        raise UserError(
            f"{path} is no trace of edge-router: its first line is no header that can be read"
        ) from error


def _read_line(line: bytes, step: int) -> StepEvents | EpisodeFinished:
    data = _object(line)
    if data.get("type") == "footer":
        return from_plain(EpisodeFinished, data.get("episode"))
    if data.get("type") != "step":
        raise NotUnderstoodError("neither a step nor a footer")
    read = from_plain(StepEvents, data)
    if read.finished.step != step:
        raise NotUnderstoodError("a step is missing")
    return read


def _object(line: bytes) -> dict[str, Any]:
    try:
        data = parse_json(line)
    except ValueError as error:
        raise NotUnderstoodError("not JSON") from error
    if not isinstance(data, dict):
        raise NotUnderstoodError("not an object")
    return data


# -- played back ----------------------------------------------------------------------------------

_WORDS = re.compile(r"\s*\S+|\s+$")


def replay(
    trace: Trace,
    listeners: Sequence[Listener],
    *,
    speed: float | None = None,
    step: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Emit the events of `trace` again.

    `speed` 1 takes the time that the run took, 2 half of it, None none; `step`
    is called before each step and may wait.
    """

    def emit(event: Event, ms: float = 0.0) -> None:
        if speed is not None and ms > 0:
            sleep(ms / 1000 / speed)
        for listener in listeners:
            listener(event)

    emit(trace.started)
    for recorded in trace.steps:
        if step is not None:
            step()
        for event, ms in _events(recorded):
            emit(event, ms)
    if trace.finished is not None:
        emit(trace.finished)


def _events(step: StepEvents) -> Iterator[tuple[Event, float]]:
    """The events of a step, each with the milliseconds that passed before it."""
    latency, number = step.finished.latency, step.finished.step
    if step.dropped is not None:
        yield step.dropped, 0.0
    yield step.started, latency.load_ms + latency.prefill_ms
    yield step.routed, latency.route_ms
    wait = latency.draft_ms + latency.handoff_ms + latency.catchup_ms + latency.verify_ms
    words = _WORDS.findall(step.finished.text)
    for word in words:
        yield TextDecoded(number, word), wait + latency.decode_ms / len(words)
        wait = 0.0
    yield step.finished, latency.env_ms
