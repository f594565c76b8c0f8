"""SHA-256 of a model's files, computed once for files that stay as they are.

Hashing takes a second per gigabyte, so what was found is remembered (`engine.file_notes`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from edge_router.engine.file_notes import FileNote
from edge_router.engine.gguf_file import read_header
from edge_router.engine.tier_spec import TierSpec
from edge_router.errors import UserError

_PIECE = 1 << 20


def gguf_sha256(path: Path, *, remembered: bool = True, parts: Sequence[Path] | None = None) -> str:
    """SHA-256 of the GGUF at `path`; of its parts one after another, as `cat` would join them.

    `remembered` False reads every byte; whoever has read the header gives its `parts`, since
    reading it again takes 0.3 s at a vocabulary of 152k. Raises `UserError` for a file that is no
    whole GGUF.
    """
    parts = parts or read_header(path).parts
    note = FileNote("checksums", parts)
    if remembered and (known := note.read().get("sha256")):
        return str(known)
    digest = _hash(parts)
    note.write({"sha256": digest})
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
