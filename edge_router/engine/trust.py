"""What makes a model's file fit to be loaded: its SHA-256, and a trial in a process of its own.

Hashing takes a second per gigabyte, so it is done once for files that stay as they are
(`engine.file_notes`).

llama.cpp checks much of a file with assertions, and one that fails ends the process without a
word that a user could read. So the first load of a file happens in a child: the vocabulary reads
a text, and two tokens go through the weights. What survives is remembered by its SHA-256 and
llama.cpp's version; files that come with edge-router are known already.

    require_tried(header)     # costs nothing from the second time on
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from edge_router.engine.file_notes import FileNote
from edge_router.engine.gguf_file import GgufHeader, read_header
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.tier_spec import TierSpec
from edge_router.errors import UserError
from edge_router.files.folders import cache_folder, if_any
from edge_router.work.processes import python_module
from edge_router.work.store import key_of

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


def ladder_fingerprint(specs: Sequence[TierSpec]) -> str:
    """SHA-256 over the tiers' names and files, low to high."""
    return key_of({"tiers": [(spec.name, gguf_sha256(spec.path)) for spec in specs]})


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


# -- the trial ------------------------------------------------------------------------------------

# Everything a prompt may hold: words, numbers, white space, other scripts, bytes of no token.
_TEXT: Final = "You are in a room 12.\n\n> go to  desk\t1 'don't' \u00e4\u4f60\u597d\U0001f600\x01"
_CONTEXT: Final = 64
_SECONDS: Final = 300  # and as many as a slow disk takes for the file
_BYTES_A_SECOND: Final = 10_000_000
_ASSERTION: Final = re.compile(r"GGML_ASSERT\(.*\) failed|terminate called.*|what\(\):.*")

_passed: set[str] = set()  # in this process


def require_tried(header: GgufHeader) -> None:
    """Raise `UserError` when llama.cpp ends a process that loads this file."""
    digest = gguf_sha256(header.path)
    folder = if_any(cache_folder)
    note = folder / "tried" / f"{digest}-{_version()}" if folder else None
    if digest in _passed or (note and note.is_file()):
        return
    if not _survives(header):
        return
    _passed.add(digest)
    if note:
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()


@cache
def _version() -> str:
    return metadata.version("llama-cpp-python")


def _survives(header: GgufHeader) -> bool:
    """False when llama.cpp refuses the file in an orderly way: loading it will say why."""
    limit = _SECONDS + header.size_bytes / _BYTES_A_SECOND
    try:
        child = subprocess.run(
            python_module("edge_router.engine.trust", os.fspath(header.path)),
            env={**os.environ, "GGML_NO_BACKTRACE": "1", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"llama.cpp had not loaded {header.path} after {limit:.0f} s; the file is damaged or "
            "no model of its kind"
        ) from error
    if child.returncode in (0, _REFUSED):
        return child.returncode == 0
    found = _ASSERTION.findall(child.stderr.decode("utf-8", "replace"))
    how = " ".join(found) or f"with status {child.returncode}"
    raise UserError(
        f"llama.cpp crashes when it loads {header.path} ({how}); the file is damaged or made for "
        "another version: download or convert it again"
    )


# -- the child ------------------------------------------------------------------------------------

_REFUSED: Final = 3


def main(path: Path) -> int:
    """Load the file and use what an episode uses of it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        model = LlamaModel.load(path, repack=False)
        tokens = model.tokenize(_TEXT)
        model.join(tokens)
        _ = model.eog_ids
        size = min(_CONTEXT, model.n_ctx_train)
        context = LlamaContext(model, n_ctx=size, n_threads=1)
        context.decode((tokens or [0])[: min(2, size)], 0)
        context.logits()
    except UserError:
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
