"""Names and paths that a command line or a stranger's file gives, each checked in one place."""

from __future__ import annotations

import re
import stat
from pathlib import Path, PurePosixPath
from typing import Final

from edge_router.errors import UserError

# A name becomes a folder and the beginning of file names such as NAME-iq2_xxs.gguf.
MAX_NAME: Final = 96
_FOLDER: Final = "is a folder"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def require_name(name: str, what: str) -> str:
    """`name`, fit for a folder, a file and an option. Raises `UserError` beginning with `what`."""
    if len(name) > MAX_NAME:
        raise UserError(
            f"{what} {name[:24]!r}... has {len(name)} letters; a name has at most {MAX_NAME}"
        )
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{what} {name!r} will not do: a name begins with a letter or digit and goes on with "
            "letters, digits, '.', '_' and '-' (A to Z)"
        )
    return name


def stays_inside(relative: str) -> bool:
    """Whether a path written in a file names something in that file's own folder."""
    path = PurePosixPath(relative)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def why_no_file(path: Path) -> str:
    """ "" for a regular file, else what is wrong with `path`, without opening it.

    Opening a pipe waits for its other end, which may never come.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a zero byte
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return why_not_regular(mode)


def why_not_regular(mode: int) -> str:
    """ "" for the mode of a regular file, else what it is instead."""
    if stat.S_ISDIR(mode):
        return _FOLDER
    return "" if stat.S_ISREG(mode) else "is a pipe or a device, not a file"


def is_folder(path: Path) -> bool:
    """Like `Path.is_dir`, but an impossible path is just no folder."""
    return why_no_file(path) == _FOLDER
