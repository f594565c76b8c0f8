"""What was found out about files, remembered for as long as they stay as they are.

    note = FileNote("checksums", [path])
    if not (known := note.read()):
        note.write({"sha256": hash_of(path)})

Each is a small file in the cache folder, under the files' paths, with their sizes and the times of
their last change. A cache folder that cannot be written makes it slower and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edge_router.errors import UserError
from edge_router.files.data_files import read_object
from edge_router.files.folders import cache_folder, if_any
from edge_router.files.whole import write_text

_FACTS: Final = "facts"


class FileNote:
    """A note of one `kind` on `files`, in this order; they are looked at when it is made."""

    def __init__(self, kind: str, files: Sequence[Path]) -> None:
        self._files = files
        self._facts = [_facts(file) for file in files]
        name = hashlib.sha256(b"\0".join(os.fsencode(file.absolute()) for file in files))
        folder = if_any(cache_folder)
        self._path = folder / kind / f"{name.hexdigest()}.json" if folder else None

    def read(self) -> dict[str, Any]:
        """What was written of the files as they are; nothing where they have changed."""
        if self._path is None:
            return {}
        try:
            said = read_object(self._path, "a note")
        except UserError:
            return {}
        return said if said.pop(_FACTS, None) == self._facts else {}

    def write(self, said: Mapping[str, str]) -> None:
        """Remember it, unless the files have changed since the note was made."""
        if self._path is None or self._facts != [_facts(file) for file in self._files]:
            return
        with contextlib.suppress(OSError, UserError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, json.dumps({_FACTS: self._facts, **said}), durable=False)


def _facts(path: Path) -> list[int]:
    """What changes when a file does; a copied time of change does not fool the other one."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
