"""The parts of edge-router that the library itself must not import: `tui` and `train`.

A run on a server needs neither Textual nor PyTorch, so the commands that do
load their part by name, when they are called, and say what to install when it
is missing.

    load_part("train.router.commands", extra="train").run(options)

In a checkout these two are folders beside `edge_router`. An installed copy has
them in `edge_router/_parts`, because names as general as theirs may be another
package's in the user's site-packages. That folder is put on the path when the
first part is loaded, before everything else, so that such a package is not
taken for ours. Processes that multiprocessing, joblib or dask start begin with
their parent's path, and so find the parts as well.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from edge_router.errors import UserError

INSTALLED: Final = Path(__file__).resolve().parent / "_parts"  # not there in a checkout


def load_part(module: str, *, extra: str) -> ModuleType:
    """Import `module`. Raises `UserError` naming `extra` when a package it needs is missing."""
    _find_parts()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"this command needs the package {(error.name or module).partition('.')[0]}, which is"
            f" not installed; run: pip install 'edge-router[{extra}]'"
        ) from error


def _find_parts() -> None:
    """Let `import tui` and `import train` find the parts of an installed copy."""
    folder = str(INSTALLED)
    if folder not in sys.path and INSTALLED.is_dir():
        sys.path.insert(0, folder)
