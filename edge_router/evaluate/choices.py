"""What a benchmark of games is asked for, and what becomes of it: games, rows, settings, work.

Each value carries the options that belong together, as Click names them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_router.agent.episode import Options
from edge_router.engine.fingerprint import require_same_model
from edge_router.engine.gguf_file import read_header
from edge_router.engine.loading import settled
from edge_router.engine.sampling import Sampler
from edge_router.engine.tier_spec import ModelRuntime
from edge_router.engine.trust import ladder_fingerprint
from edge_router.errors import UserError
from edge_router.evaluate.policies import Plans, Settings, read_plans
from edge_router.evaluate.rows import Row, parse_rows
from edge_router.files.whole import require_makeable
from edge_router.ladders.costs import CostProfile, find_profile, ladder_profile
from edge_router.ladders.ladder_file import LadderFile
from edge_router.ladders.resolve import require_context
from edge_router.results.file import require_writable
from edge_router.screen.printable import say
from edge_router.tasks.games import GameRef
from edge_router.tasks.protocol import found_games
from edge_router.tasks.registry import DEFAULT, find_task, prompt_override
from edge_router.work.pool import Backend, Crew
from edge_router.work.progress import Bar, ShownProgress
from edge_router.work.store import Store, StoredWork, WorkState, default_store

HIGH_TIER: Final = "high"  # what rows are compared with where nobody says otherwise


@dataclass(frozen=True)
class GameSet:
    """Whose games, of which split or folder, and how many of them."""

    task: str = DEFAULT
    split: str | None = None
    folder: Path | None = None
    games: int | None = None

    @property
    def origin(self) -> str:
        """Where the games come from, in a word."""
        return self.split or (str(self.folder) if self.folder else "default")

    def chosen(self) -> list[GameRef]:
        """All of them, or N spread over the list, which is by type. Raises `UserError`."""
        looked = found_games(find_task(self.task), self.split, self.folder)
        if looked.note:
            say(f"edge-router: {looked.note}", err=True)
        found = looked.games
        wanted = len(found) if self.games is None else self.games
        if wanted > len(found):
            raise UserError(f"--games asks for {wanted} games and there are {len(found)}")
        return [found[i * len(found) // wanted] for i in range(wanted)]


@dataclass(frozen=True)
class RowChoice:
    """Who plays, what the rows are compared with, and by whose costs."""

    routers: Sequence[str]
    kv: str | None  # None: as the ladder suggests
    dial: str | None
    oracle: Path | None
    costs: str | None
    against: str | None

    def line_up(self, ladder: LadderFile) -> LineUp:
        """What was asked for, on this ladder; a grown one is compared with its high tier alone.

        Raises `UserError`.
        """
        alone = f"alone:{ladder.tiers[-1].name}" if ladder.grown else HIGH_TIER
        against = self.against or alone
        kvs, dials = _words(self.kv or ladder.kv), _dials(self.dial)

        def parsed(specs: Sequence[str]) -> list[Row]:
            return parse_rows(specs, kvs=kvs, dials=dials, auto=ladder.router, against=against)

        return LineUp(
            rows=parsed(self.routers),
            against=against,
            reference=None if against == HIGH_TIER else parsed([against])[-1],
            profile=self._profile(ladder),
            plans=read_plans(self.oracle, [t.name for t in ladder.tiers]) if self.oracle else None,
        )

    def _profile(self, ladder: LadderFile) -> CostProfile | None:
        """The costs asked for, or those of this very ladder where it was calibrated."""
        if self.costs is None:
            return ladder_profile(ladder.name, ladder_fingerprint(ladder.tiers))
        profile = find_profile(self.costs)
        for spec in ladder.tiers:
            profile.tier(spec.name)
        return profile


@dataclass(frozen=True)
class LineUp:
    """The rows of one ladder's table, and what their outcomes are held against."""

    rows: Sequence[Row]
    against: str  # the row that the others are compared with, as people write it
    reference: Row | None  # that row; None: the high tier, under each row's own KV mode
    profile: CostProfile | None  # None: this ladder's costs are not known
    plans: Plans | None  # of the oracle, where there are any


@dataclass(frozen=True)
class EpisodeChoice:
    """How long an episode lasts, how its text is sampled, and where its trace goes."""

    max_steps: int = 50
    seed: int = 0
    temperature: float = 0.0
    retry_temperature: float = 0.7
    constrain: bool = False
    traces: Path | None = None


@dataclass(frozen=True)
class WorkPlace:
    """Where games are played, and where their results are kept."""

    jobs: int = 1
    dask: str | None = None
    store: Path | None = None
    play_crashed_again: bool = False

    @property
    def backend(self) -> Backend:
        return Backend(self.jobs, self.dask)

    def check(self) -> None:
        """Raise `UserError`, before anything long, where results could not be kept or made."""
        path = self.store or default_store()
        require_makeable(path.parent)
        if os.path.exists(path):
            require_writable(path)
            Store(path).close()  # refuses what is no store
        self.backend.check()

    @contextmanager
    def opened(self) -> Iterator[StoredWork]:
        """The store, the processes and the progress line."""
        with (
            Store(self.store or default_store()) as store,
            Crew(self.backend) as crew,
            ShownProgress() as shown,
        ):
            progress = GamesProgress(shown)
            yield StoredWork(store, crew, progress, crashed_again=self.play_crashed_again)
            if store.damaged:
                shown.note(
                    f"{store.damaged} results in {store.path} were damaged and are made anew"
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


def settings_of(
    ladder: LadderFile, task: str, episode: EpisodeChoice, machine: ModelRuntime
) -> Settings:
    """What holds for every game. Raises `UserError` for tiers or numbers that cannot be."""
    headers = [read_header(spec.path) for spec in ladder.tiers]
    require_same_model(headers)
    for temperature in (episode.temperature, episode.retry_temperature):
        Sampler(temperature)  # refuses what is out of range
    settled_machine = settled(machine, ladder.tiers)
    require_context(settled_machine.ctx or 0, ladder.tiers)
    style = prompt_override(find_task(task), ladder.prompt, [h.metadata for h in headers])
    return Settings(
        options=Options(
            max_steps=episode.max_steps,
            seed=episode.seed,
            temperature=episode.temperature,
            constrain=episode.constrain,
            prompt=style,
            fingerprints=False,
        ),
        machine=settled_machine,
        retry_temperature=episode.retry_temperature,
        traces=episode.traces and _made(episode.traces.expanduser()),
    )


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--traces {folder} cannot be made: {error.strerror}") from error
    require_makeable(folder)
    return folder.absolute()


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()] or [text]


def _dials(text: str | None) -> list[float]:
    if text is None:
        return []
    try:
        dials = [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        dials = [-1.0]
    if not dials or not all(0 <= dial <= 1 for dial in dials):
        raise UserError(f"--dial {text}: dials are numbers between 0 and 1, joined by commas")
    return dials
