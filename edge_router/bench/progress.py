"""How far a long run is, on stderr, and what a person reads who stopped it."""

from __future__ import annotations

from edge_router.bench.stored_work import Progress as State
from edge_router.bench.stored_work import StoredWork


def interrupted(work: StoredWork) -> str:
    """What was saved when Ctrl-C came."""
    done, total = work.progress.done, work.progress.total
    return (
        f"interrupted: {done} of {total} games are kept in {work.store.path}; the same command goes"
        " on from there"
    )


class ProgressLine:
    """A bar on a terminal, else a line now and then."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._bar = Progress(
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("games")
        self._told = -1

    def __call__(self, progress: State) -> None:
        crashed = f", {progress.crashed} crashed" if progress.crashed else ""
        text = f"games ({progress.from_store} known{crashed})"
        self._bar.update(
            self._task, description=text, total=progress.total, completed=progress.done
        )
        tenth = 10 * progress.done // max(1, progress.total)
        if not self._console.is_terminal and tenth != self._told:
            self._told = tenth
            self._console.print(f"{text}: {progress.done}/{progress.total}", highlight=False)

    def close(self) -> None:
        self._bar.stop()

    def __enter__(self) -> ProgressLine:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
