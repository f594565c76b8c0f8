"""One process that plays the games of all tests of a file.

Starting one, which loads llama.cpp and the game engine, takes longer than the short games that
these tests play. What a process may do to a run (end, be killed, be interrupted) is tested in
tests/work, with processes of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edge_router.work import pool


class _Kept(pool._Companion):
    """Ends with the tests, or when what it has in hand is not waited for."""

    busy = False

    def call(self, guarded: pool._Guarded[Any, Any], index: int, item: Any) -> Any:
        self.busy = True
        answer = super().call(guarded, index, item)
        self.busy = False
        return answer

    def end(self) -> None:
        if self.busy:
            super().end()


_kept: list[_Kept] = []


def _companion() -> _Kept:
    if not _kept or _kept[0].busy:
        _kept[:] = [_Kept()]
    return _kept[0]


@pytest.fixture(scope="module", autouse=True)
def kept_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_Companion", _companion)
        yield
