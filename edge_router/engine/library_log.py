"""Keep llama.cpp's log off the screen, and remember what an error message may need of it.

llama.cpp logs hundreds of lines a load to stderr by default, in pieces: a line
may come in several calls, and a call may hold several lines.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

_ERROR_LEVEL: Final = 4  # ggml_log_level: 1 debug, 2 info, 3 warn, 4 error, 5 continues
_CONTINUES: Final = 5


class LibraryLog:
    """Keeps llama.cpp's last error lines, and all lines while a capture is on."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.captured: list[str] | None = None
        self._line = ""
        self._level = 0
        self.callback: Any = None  # llama.cpp holds a bare pointer; this keeps it alive

    def receive(self, level: int, text: bytes | None, _data: object) -> None:
        if level < _ERROR_LEVEL and self.captured is None:
            return
        if level not in (_CONTINUES, self._level):
            self._keep(self._line)  # what was begun at another level ends here
            self._line, self._level = "", level
        *lines, self._line = (self._line + (text or b"").decode("utf-8", "replace")).split("\n")
        for line in lines:
            self._keep(line)

    def _keep(self, line: str) -> None:
        if self.captured is not None and line:
            self.captured.append(line)
        if self._level == _ERROR_LEVEL and line.strip():
            self.errors.append(line.strip())

    @contextlib.contextmanager
    def capture(self) -> Iterator[list[str]]:
        lines: list[str] = []
        self.captured = lines
        try:
            yield lines
        finally:
            self.captured = None

    def reason(self) -> str:
        """The first thing that went wrong since the last `clear`, without its function name."""
        for line in self.errors:
            return re.sub(r"^\w+: (error loading model: )?", "", line)
        return "it gives no reason"
