"""What a conversion has made, kept beside its files so that a second run goes on from there.

`.convert.json` names the source and, for every file that was made from it (tiers,
the F16 file, the importance matrix), its SHA-256; for tiers their figures too.
A file is entered before it gets its name. So a file that is not entered, or is
another by now, was put there by somebody else: it is neither used, nor written
over, nor removed.
A folder is held by one conversion at a time (`.convert.lock`), so whatever
temporary files lie there at the start were left by one that was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_router.convert.verify import Fidelity
from edge_router.engine.fingerprint import file_sha256
from edge_router.engine.gguf_file import read_header
from edge_router.engine.quantise import Fallback
from edge_router.errors import UserError
from edge_router.files.data_files import read_object
from edge_router.files.whole import PARTIAL, write_text, writing
from edge_router.ladders.ladder_file import LADDER_FILE

JOURNAL = ".convert.json"
LOCK = ".convert.lock"


@dataclass
class DoneTier:
    """A finished tier; `imatrix` is the digest of the importance matrix it was made with."""

    name: str
    file: str
    size_bytes: int
    sha256: str
    seconds: float
    imatrix: str = ""
    fallbacks: list[Fallback] = field(default_factory=list)
    fidelity: dict[str, Fidelity] = field(default_factory=dict)
    positions: int = 0  # that were asked for in comparing; 0: an older version did not tell


@dataclass
class Intermediate:
    """A file that tiers are made from; it goes at the end unless it was asked to stay."""

    file: str
    sha256: str
    stays: bool = False


@dataclass
class Journal:
    """`source` is the fingerprint of what is converted."""

    folder: Path
    source: str
    tiers: dict[str, DoneTier] = field(default_factory=dict)
    intermediates: dict[str, Intermediate] = field(default_factory=dict)  # by file name
    _checked: dict[str, str] = field(default_factory=dict)  # file name -> SHA-256, read once

    @classmethod
    def open(cls, folder: Path, source: str) -> Journal:
        """The journal of `folder`. Raises `UserError` when its tiers are of another source.

        What an unfinished conversion of another source left goes.
        """
        found = _read(folder)
        if found is None:
            if (folder / LADDER_FILE).is_file():
                raise UserError(f"{folder} holds a ladder already; give another folder with --out")
            return cls(folder, source)
        if found.source != source:
            if found.tiers:
                raise UserError(
                    f"{folder} holds tiers of another checkpoint; give another folder with --out"
                )
            found.clear(list(found.intermediates))
            return cls(folder, source)
        return found

    def finished(self, tier: str, imatrix: str) -> DoneTier | None:
        """The tier if its file is still there as it was made, with this importance matrix."""
        done = self.tiers.get(tier)
        if done is None or done.imatrix != imatrix:
            return None
        return done if self.holds(done.file) else None

    def holds(self, file: str) -> bool:
        """Whether the file is there with the content that it was made with."""
        path, wanted = self.folder / file, self._wanted(file)
        if wanted is None or not path.is_file():
            return False
        if file not in self._checked:
            with writing(path):
                self._checked[file] = file_sha256(path)
        return self._checked[file] == wanted

    def require_free(self, file: str) -> None:
        """Raise `UserError` where a file of somebody else has this name."""
        path = self.folder / file
        if not os.path.lexists(path) or self.holds(file):
            return
        if self._wanted(file) is None or not _damaged(path):
            raise UserError(
                f"{path} is there already and was not made by this conversion; move it away, or "
                "give another --name, or another folder with --out"
            )

    def _wanted(self, file: str) -> str | None:
        """The SHA-256 with which the file was made, None where it was not made here."""
        made = [t.sha256 for t in self.tiers.values() if t.file == file]
        made += [i.sha256 for i in self.intermediates.values() if i.file == file]
        return made[-1] if made else None

    def add(self, done: DoneTier | Intermediate) -> None:
        self._checked[done.file] = done.sha256
        if isinstance(done, DoneTier):
            self.tiers[done.name] = done
            self.intermediates.pop(done.file, None)
        else:
            self.intermediates[done.file] = done
        self.save()

    def clear(self, files: list[str]) -> None:
        """Remove intermediates that are still what was made and were not asked to stay."""
        for file in files:
            made = self.intermediates.get(file)
            if made is None or made.stays or not self.holds(file):
                continue
            (self.folder / file).unlink(missing_ok=True)
            del self.intermediates[file]
        self.save()

    def save(self) -> None:
        data = {
            "source": self.source,
            "tiers": [asdict(t) for t in self.tiers.values()],
            "intermediates": [asdict(i) for i in self.intermediates.values()],
        }
        write_text(self.folder / JOURNAL, json.dumps(data, indent=1) + "\n")


def source_of(folder: Path) -> str | None:
    """The fingerprint of what the tiers in `folder` were made from, None where there are none."""
    found = _read(folder)
    return found.source if found is not None and found.tiers else None


def _damaged(path: Path) -> bool:
    """Whether this is a piece of a GGUF at most, as a broken disk or copy leaves it."""
    try:
        read_header(path)
    except UserError:
        return path.is_file()
    return False


def _read(folder: Path) -> Journal | None:
    """The journal as it stands, None where there is none that can be read."""
    try:
        data = read_object(folder / JOURNAL, "a journal")
        tiers = [_done(t) for t in data["tiers"]]
        others = [Intermediate(**i) for i in data["intermediates"]]
        source = str(data["source"])
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Journal(folder, source, {t.name: t for t in tiers}, {i.file: i for i in others})


def _done(data: dict[str, Any]) -> DoneTier:
    fallbacks = [Fallback(**f) for f in data.pop("fallbacks")]
    fidelity = {kind: Fidelity(**f) for kind, f in data.pop("fidelity").items()}
    return DoneTier(**data, fallbacks=fallbacks, fidelity=fidelity)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, and clear away what a killed one left there."""
    with writing(folder / LOCK):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another conversion is writing to {folder}; wait for it") from error
        for left in folder.glob(PARTIAL):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)
