"""What a person reads while games are played, and after stopping them."""

from __future__ import annotations

from edge_router.work.progress import Bar, ShownProgress
from edge_router.work.stored_work import StoredWork, WorkState


def interrupted(work: StoredWork) -> str:
    """What was saved when Ctrl-C came."""
    done, total = work.progress.done, work.progress.total
    return (
        f"interrupted: {done} of {total} games are kept in {work.store.path}; the same command goes"
        " on from there"
    )


class GamesProgress:
    """Hears of each game that has ended, and shows it."""

    def __init__(self, shown: ShownProgress) -> None:
        self._shown = shown
        self._bar: Bar | None = None

    def __call__(self, progress: WorkState) -> None:
        crashed = f", {progress.crashed} crashed" if progress.crashed else ""
        what = f"games ({progress.from_store} known{crashed})"
        if self._bar is None:
            self._bar = self._shown("games", progress.total, progress.from_store)
        if progress.done < progress.total or progress.done > self._bar.done:
            self._bar.at(progress.done, what=what, total=progress.total, known=progress.from_store)
