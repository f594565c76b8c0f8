"""Try a GGUF that nobody has tried here in a process of its own, which llama.cpp may end.

llama.cpp checks much of a file with assertions, and one that fails ends the process without a
word that a user could read. So the first load of a file happens in a child: the vocabulary reads
a text, and two tokens go through the weights. What survives is remembered by its SHA-256 and
llama.cpp's version; files that come with edge-router are known already.

    require_tried(header)     # costs nothing from the second time on
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from edge_router.engine.checksums import gguf_sha256
from edge_router.engine.gguf_file import GgufHeader
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.errors import UserError
from edge_router.files.folders import cache_folder, if_any
from edge_router.work.processes import python_module

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
            python_module("edge_router.engine.trial", os.fspath(header.path)),
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
