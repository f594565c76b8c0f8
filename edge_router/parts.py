"""The parts of edge-router that the library itself must not import: `tui` and `train`.

A run on a server needs neither Textual nor PyTorch, so the commands that do
load their part by name, when they are called, and say what to install when it
is missing.

    load_part("train.router.commands", extra="train").run(...)
"""

from __future__ import annotations

import importlib
from types import ModuleType

from edge_router.errors import UserError


def load_part(module: str, *, extra: str) -> ModuleType:
    """Import `module`. Raises `UserError` naming `extra` when a package it needs is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"this command needs the package {(error.name or module).partition('.')[0]}, which is"
            f" not installed; run: pip install 'edge-router[{extra}]'"
        ) from error
