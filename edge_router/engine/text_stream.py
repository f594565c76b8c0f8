"""Turn a stream of token bytes into text that can be shown while it grows.

A token may end inside a UTF-8 character or inside a stop string, so both are
held back until it is clear what they are. Bytes that never become UTF-8 show
as U+FFFD.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence


class TextStream:
    """Collects bytes, finds stop strings and hands on whole characters."""

    def __init__(
        self, stops: Sequence[str] = (), on_text: Callable[[str], None] | None = None
    ) -> None:
        self._stops = [s.encode("utf-8") for s in stops if s]
        self._on_text = on_text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._shown = 0  # bytes handed to the decoder
        self.data = bytearray()

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")

    def push(self, piece: bytes, may_stop: bool = True) -> bool:
        """Add a token's bytes; True when a stop string is complete and was cut off."""
        before = len(self.data)
        self.data += piece
        for stop in self._stops if may_stop else ():
            at = self.data.find(stop, max(0, before - len(stop) + 1))
            if at >= 0:
                del self.data[at:]
                return True
        if self._on_text is not None:
            self._show(len(self.data) - self._held_back())
        return False

    def _held_back(self) -> int:
        """Length of the longest end of the text that may become a stop string."""
        longest = 0
        for stop in self._stops:
            for n in range(min(len(stop) - 1, len(self.data)), longest, -1):
                if self.data.endswith(stop[:n]):
                    longest = n
                    break
        return longest

    def _show(self, end: int, final: bool = False) -> None:
        if self._on_text is None or (end <= self._shown and not final):
            return
        text = self._decoder.decode(bytes(self.data[self._shown : end]), final)
        self._shown = max(self._shown, end)
        if text:
            self._on_text(text)

    def finish(self) -> str:
        """Show what was held back; returns the whole text."""
        self._show(len(self.data), final=True)
        return self.text
