"""Write files that appear only when they are whole, and say in a sentence why one cannot be.

with whole(path) as partial:        # any writer: it is given the name to write under
    writer.save(partial)
write_text(path, "...")             # a text
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from edge_router.errors import UserError

TEMPORARY: Final = ".edge-router."  # how the name of every temporary file begins
PARTIAL: Final = ".*edge-router.*.partial"  # what an interruption may leave behind

Record = Callable[[Path], None]


@contextmanager
def whole(
    target: Path, record: Record = lambda partial: None, *, durable: bool = True
) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place at the end, or vanishes.

    `record` is given the finished file before it gets its name, so that a file under its name
    is always one that is known. `durable` waits until the disk has the file, which a loss of
    power would otherwise leave empty; what is cheap to make again does without.
    Raises `UserError` that names `target` when the system refuses to write.
    """
    partial = temporary(target)
    try:
        with writing(target):
            yield partial
            if durable:
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
            record(partial)
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def write_text(target: Path, text: str, *, durable: bool = True) -> None:
    """Write `text` as UTF-8, whole or not at all. Raises `UserError`."""
    with whole(target, durable=durable) as partial:
        partial.write_text(text, encoding="utf-8")


def temporary(target: Path, process: int | None = None) -> Path:
    """Where a process (this one, or the one of that number) writes `target` until it is whole."""
    return target.with_name(f"{TEMPORARY}{target.name}.{process or os.getpid()}.partial")


def remove_leftovers(target: Path) -> None:
    """Remove what ended processes wrote of `target`; none may be at it now."""
    for left in target.parent.glob(f"{TEMPORARY}{glob.escape(target.name)}.*.partial"):
        left.unlink(missing_ok=True)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn a refused write into a `UserError` that names `target`."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC or "requested and" in str(error):  # numpy gives no number
            raise disk_full(target) from error
        raise unwritable(target, error) from error


def disk_full(target: Path) -> UserError:
    """What is said when no room is left."""
    return UserError(
        f"{target} cannot be written: the disk is full; what was finished is kept, so make room "
        "and run the command again"
    )


def unwritable(target: Path, error: OSError) -> UserError:
    """What is said of any other refusal."""
    return UserError(f"{target} cannot be written: {error.strerror or error}")


# -- folders and room ----------------------------------------------------------------------------


def make_folder(folder: Path) -> None:
    """Make `folder` and prove that it can be written to."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with writing(folder), TemporaryFile(dir=folder):
        pass


def require_makeable(folder: Path) -> None:
    """Raise `UserError` where `folder` neither takes files nor can be made; makes nothing."""
    there = folder.absolute()
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    made = "made" if there != folder.absolute() else "written to"
    if not os.path.isdir(there):
        raise UserError(f"the folder {folder} cannot be {made}: {there} is a file; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"the folder {folder} cannot be {made}: permission denied in {there}")


def free_bytes(folder: Path) -> int:
    """Bytes that an ordinary user may still write where `folder` is or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_space(
    folder: Path,
    needed: int,
    advice: str = "give another folder with --out or fewer --tiers",
) -> None:
    """Raise `UserError`, with `advice`, unless `needed` more bytes fit where `folder` lies."""
    free = free_bytes(folder)
    if needed > free:
        raise UserError(
            f"there is not enough room in {folder}: about {gigabytes(needed)} are needed and "
            f"{gigabytes(free)} are free; {advice}"
        )


def gigabytes(n_bytes: float) -> str:
    """ "3.4 GB", "12 MB": for people."""
    if n_bytes >= 1e9:
        return f"{n_bytes / 1e9:.1f} GB"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 1e7 else f"{n_bytes / 1e6:.0f} MB"
