"""SHA-256 of a model's files, computed once for files that stay as they are.

Hashing takes a second per gigabyte, so what was found is kept in the cache folder under the
file's path, with its size and the times of its last change. A cache folder that cannot be
written makes it slower and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from edge_router.engine.gguf_file import read_header
from edge_router.engine.tier_spec import TierSpec
from edge_router.errors import UserError
from edge_router.files.data_files import read_object
from edge_router.files.folders import cache_folder, if_any
from edge_router.files.whole import write_text

_PIECE = 1 << 20


def gguf_sha256(path: Path, *, remembered: bool = True, parts: Sequence[Path] | None = None) -> str:
    """SHA-256 of the GGUF at `path`; of its parts one after another, as `cat` would join them.

    `remembered` False reads every byte; whoever has read the header gives its `parts`, since
    reading it again takes 0.3 s at a vocabulary of 152k. Raises `UserError` for a file that is no
    whole GGUF.
    """
    parts = parts or read_header(path).parts
    facts = [_facts(part) for part in parts]
    note = _note(parts[0])
    if remembered and note and (known := _read(note, facts)):
        return known
    digest = _hash(parts)
    if note and facts == [_facts(part) for part in parts]:
        _write(note, facts, digest)
    return digest


def require_promised(spec: TierSpec, *, remembered: bool = True) -> None:
    """Raise `UserError` unless the tier's file is the one that its ladder.toml promises."""
    if spec.sha256 and gguf_sha256(spec.path, remembered=remembered) != spec.sha256:
        raise UserError(
            f"{spec.path} is not the file that ladder.toml has the SHA-256 of; download or convert "
            "it again"
        )


def _hash(parts: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()


def _facts(path: Path) -> list[int]:
    """What changes when a file does; a copied time of change does not fool the other one."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _note(path: Path) -> Path | None:
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
    folder = if_any(cache_folder)
    return folder / "checksums" / f"{name}.json" if folder else None


def _read(note: Path, facts: list[list[int]]) -> str:
    try:
        said = read_object(note, "a checksum")
        return str(said["sha256"]) if said["facts"] == facts else ""
    except (UserError, KeyError):
        return ""


def _write(note: Path, facts: list[list[int]], digest: str) -> None:
    with contextlib.suppress(OSError, UserError):
        note.parent.mkdir(parents=True, exist_ok=True)
        write_text(note, json.dumps({"facts": facts, "sha256": digest}), durable=False)
