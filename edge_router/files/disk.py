"""Folders and room on the disk: prove that both are there before long work begins."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryFile

from edge_router.errors import UserError
from edge_router.files.whole import writing


def make_folder(folder: Path) -> None:
    """Make `folder` and prove that it can be written to."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with writing(folder), TemporaryFile(dir=folder):
        pass


def free_bytes(folder: Path) -> int:
    """Bytes that an ordinary user may still write where `folder` is or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_space(folder: Path, needed: int) -> None:
    """Raise `UserError` unless `needed` more bytes fit where `folder` lies."""
    free = free_bytes(folder)
    if needed > free:
        raise UserError(
            f"there is not enough room in {folder}: about {gigabytes(needed)} are needed and "
            f"{gigabytes(free)} are free; give another folder with --out or fewer --tiers"
        )


def gigabytes(n_bytes: float) -> str:
    """ "3.4 GB", "12 MB": for people."""
    if n_bytes >= 1e9:
        return f"{n_bytes / 1e9:.1f} GB"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 1e7 else f"{n_bytes / 1e6:.0f} MB"
