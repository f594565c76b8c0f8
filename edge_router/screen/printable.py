"""What is printed for people: nothing in it steers the terminal, whatever file it came from.

Names of tiers, models, games and files, and what a model wrote, are other people's text. It may
hold escape sequences, marks that turn the direction of writing, or half characters of a file
name. Every command prints through `say`, and rich's markup is never read out of such text.

The standard streams are taken as they are found: closed, full, or of a poor encoding. A service or
a cron job may start a command with any of the three closed. Then Python has None in `sys`, and the
next file that is opened gets the number of standard output, so that whatever prints would write
into it. `mend` puts /dev/null there first. Characters that an encoding lacks become question marks
instead of an exception.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, TextIO, TypeVar, cast

WIDTH: Final = 80  # columns, where nobody says how many there are
_REPLACED: Final = "\ufffd"
_CONTROLS: Final = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *(0x061C, 0x200E, 0x200F, 0xFEFF),  # marks of direction, byte order
    *range(0x2028, 0x202F),  # ends of lines and paragraphs, changes of direction
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),  # halves of characters: undecodable bytes of a file name
)
_SAFE: Final[dict[int, str]] = dict.fromkeys(_CONTROLS, _REPLACED) | {
    ord("\n"): "\n",
    ord("\t"): "    ",
    ord("\r"): "",
}


def clean(text: str) -> str:
    """`text` with nothing in it that could steer a terminal; its lines stay."""
    return text.translate(_SAFE)


def one_line(text: str) -> str:
    """`text` cleaned, with its ends of lines as spaces."""
    return clean(text).replace("\n", " ")


def shortened(text: str, width: int) -> str:
    """`text`, or its two ends with an ellipsis between them, in at most `width` columns."""
    if cell_width(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{_begin(text, width - 1 - end)}…{_begin(text[::-1], end)[::-1]}"


def cell_width(text: str) -> int:
    """Columns of a terminal that `text` takes: a letter may take none, one or two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _begin(text: str, width: int) -> str:
    """As much of the beginning as `width` columns hold."""
    text = text[: 8 * width]  # nobody reads more marks on a letter, and long texts cost no time
    while cell_width(text) > width:
        text = text[:-1]
    return text


def say(text: str = "", *, err: bool = False) -> None:
    """Print lines on stdout, or on stderr, cleaned and in characters that the stream has."""
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(clean(text).encode(encoding, "replace").decode(encoding), file=stream, flush=True)


def columns(stream: TextIO | None = None) -> int | None:
    """The width that is to be kept: COLUMNS, or the terminal's; None for a file or a pipe."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    is_terminal = (stream or sys.stdout).isatty()
    return shutil.get_terminal_size((WIDTH, 24)).columns if is_terminal else None


def wrapped(text: str, width: int, *, indent: str = "", hanging: str | None = None) -> list[str]:
    """Lines of at most `width` columns, broken at spaces.

    A path that is wider than a line goes on after one of its slashes; any other word that is
    wider stays whole.
    """
    start, follow = indent, indent if hanging is None else hanging
    lines, line = list[str](), start
    for piece, gap in _pieces(one_line(text), width - len(follow)):
        if line.strip() and cell_width(line + gap + piece) > width:
            lines.append(line.rstrip())
            line = follow + piece
        else:
            line += (gap if line.strip() else "") + piece
    return [*lines, line.rstrip()]


def _pieces(text: str, width: int) -> Iterator[tuple[str, str]]:
    """(piece, what stands before it on the same line)."""
    for word in text.split():
        gap = " "
        for piece in re.findall(r"[^/]*/|[^/]+$", word) if cell_width(word) > width else [word]:
            yield piece, gap
            gap = ""


def paragraphs(texts: Iterable[str], *, width: int | None = None) -> Iterator[str]:
    """Each text as lines that fit the screen; a file or a pipe gets each on one line."""
    width = width or columns()
    for text in texts:
        yield from wrapped(text, width) if width else [one_line(text)]


T = TypeVar("T")
_MANY_LINES: Final = {"text", "thought", "draft", "observation"}  # the fields that keep theirs


def cleaned(event: T) -> T:
    """The event with every text in it as it can be shown."""
    return cast(T, _cleaned(event, ""))


def _cleaned(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return clean(value) if name in _MANY_LINES else one_line(value)
    if isinstance(value, tuple):
        return tuple(_cleaned(item, name) for item in value)
    if isinstance(value, dict):
        return {_cleaned(key, name): item for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        values = {field.name: getattr(value, field.name) for field in fields(value)}
        return replace(value, **{key: _cleaned(item, key) for key, item in values.items()})
    return value


# -- standard input, output and error -------------------------------------------------------------

_NAMES = ("stdin", "stdout", "stderr")


def mend() -> None:
    """Make all three streams usable. Nothing is done to a stream that is."""
    for number, name in enumerate(_NAMES):
        if not _is_open(number):
            made = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            os.set_inheritable(made, True)
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        if name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def flush() -> None:
    """Write out what is held back. Raises `OSError` when the reader or the room is gone."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def give_up() -> None:
    """Let nothing more be written, as it would fail again when the process ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def shows(stream: TextIO, characters: str) -> bool:
    """Whether the encoding of `stream` has all the characters."""
    try:
        characters.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
