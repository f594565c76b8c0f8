"""PyTorch files of a run: written whole or not at all, read as data and never as a program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from edge_router.errors import UserError
from edge_router.files.paths import why_no_file
from edge_router.files.whole import remove_leftovers, whole


def save(data: dict[str, Any], path: Path) -> None:
    """Write a file so that it is whole or not there."""
    remove_leftovers(path)  # of runs that were killed
    with whole(path) as partial, partial.open("wb") as file:
        torch.save(data, file)  # by its name a file would hold it, and another one each time


@contextmanager
def loaded(path: Path, device: torch.device | str = "cpu") -> Iterator[dict[str, Any]]:
    """What `save` wrote, for the block that takes it over. Raises `UserError`, also for a block
    that does not find what it looks for.

    Tensors and plain data are read; a file that would run code is refused by PyTorch.
    """
    wrong = why_no_file(path)
    if wrong:
        raise UserError(f"{path} {wrong}; it should be what an earlier run saved")
    try:
        found = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # pickle's, zip's, torch's own
        raise UserError(f"{path} is no PyTorch file of ours: {_told(error)}") from error
    try:
        yield found
    except UserError:
        raise
    except Exception as error:  # of keys, types, shapes: whatever does not fit
        raise UserError(f"{path} does not hold what a run saves: {_told(error)}") from error


def _told(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__} {text[:160]}".strip()
