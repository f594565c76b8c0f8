"""What a conversion has finished, kept beside its files so that a second run goes on from there.

`.convert.json` names the source and, for every tier that is done, its file,
checksum and figures. It is written anew after each finished piece, by rename.
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

from edge_router.convert.files import PARTIAL, told, whole
from edge_router.convert.verify import Fidelity
from edge_router.engine.quantise import Fallback
from edge_router.errors import UserError
from edge_router.models import LADDER_FILE

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


@dataclass
class Journal:
    """`source` is the fingerprint of what is converted."""

    folder: Path
    source: str
    tiers: dict[str, DoneTier] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, source: str) -> Journal:
        """The journal of `folder`. Raises `UserError` when it is that of another source."""
        path = folder / JOURNAL
        journal = cls(folder, source)
        if not path.is_file():
            if (folder / LADDER_FILE).is_file():
                raise UserError(f"{folder} holds a ladder already; give another folder with --out")
            return journal
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            known, tiers = str(data["source"]), [_done(t) for t in data["tiers"]]
        except (OSError, ValueError, KeyError, TypeError):
            return journal  # not readable: everything is made again
        if known != source:
            raise UserError(
                f"{folder} holds tiers of another checkpoint; give another folder with --out"
            )
        journal.tiers = {t.name: t for t in tiers}
        return journal

    def finished(self, tier: str, imatrix: str) -> DoneTier | None:
        """The tier if its file is still there as it was made, with this importance matrix."""
        done = self.tiers.get(tier)
        if done is None or done.imatrix != imatrix:
            return None
        path = self.folder / done.file
        whole_file = path.is_file() and path.stat().st_size == done.size_bytes
        return done if whole_file else None

    def add(self, done: DoneTier) -> None:
        self.tiers[done.name] = done
        self.save()

    def save(self) -> None:
        data = {"source": self.source, "tiers": [asdict(t) for t in self.tiers.values()]}
        with whole(self.folder / JOURNAL) as partial:
            partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _done(data: dict[str, Any]) -> DoneTier:
    fallbacks = [Fallback(**f) for f in data.pop("fallbacks")]
    fidelity = {kind: Fidelity(**f) for kind, f in data.pop("fidelity").items()}
    return DoneTier(**data, fallbacks=fallbacks, fidelity=fidelity)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, and clear away what a killed one left there."""
    with told(folder / LOCK):
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
