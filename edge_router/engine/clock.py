"""Milliseconds of the engine's stages, without those that a listener takes."""

from __future__ import annotations

import time
from collections.abc import Callable


def ms_since(started: float) -> float:
    """Milliseconds since `started`, a reading of `time.perf_counter`."""
    return 1000.0 * (time.perf_counter() - started)


class StageClock:
    """Times one stage after another; a slow terminal is not a slow model.

    Text goes through `show`, whose time counts for no stage.
    """

    def __init__(self, on_text: Callable[[str], None] | None) -> None:
        self._on_text = on_text
        self.show = None if on_text is None else self._show
        self._started = time.perf_counter()
        self._shown_ms = 0.0

    def _show(self, text: str) -> None:
        assert self._on_text is not None
        started = time.perf_counter()
        self._on_text(text)
        self._shown_ms += ms_since(started)

    def lap(self) -> float:
        """Milliseconds of the stage that ends now; the next one begins."""
        ms = max(0.0, ms_since(self._started) - self._shown_ms)
        self._started, self._shown_ms = time.perf_counter(), 0.0
        return ms
