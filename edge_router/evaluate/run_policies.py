"""`edge-router bench policies`: games, rows and settings from the options, then the run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_router.agent.episode import Options
from edge_router.engine.fingerprint import require_same_model
from edge_router.engine.gguf_file import read_header
from edge_router.engine.ladder import default_context
from edge_router.engine.offload import AUTO, GpuLayers
from edge_router.engine.sampling import Sampler
from edge_router.errors import UserError
from edge_router.evaluate.jobs import ladder_fingerprint
from edge_router.evaluate.policies import PlayedRow, Policies, Settings, read_plans
from edge_router.evaluate.rows import parse_rows
from edge_router.evaluate.summary import summaries
from edge_router.ladders.costs import CostProfile, find_profile, ladder_profile
from edge_router.ladders.ladder_file import LadderFile, read_details
from edge_router.ladders.resolve import resolve
from edge_router.results.file import results
from edge_router.results.outputs import Outputs
from edge_router.screen.printable import columns, say
from edge_router.tasks.games import GameRef
from edge_router.tasks.registry import DEFAULT, find_task
from edge_router.tasks.styles import prompt_override, style_for
from edge_router.work.pool import Backend, Crew
from edge_router.work.progress import Bar, ShownProgress
from edge_router.work.store import Store, default_store
from edge_router.work.stored_work import StoredWork, WorkState


@dataclass(frozen=True)
class PolicyOptions:
    """The command's options, as Click names them."""

    task: str = DEFAULT
    split: str | None = None
    folder: Path | None = None
    games: int | None = None
    model: str | None = None
    tiers: Sequence[str] = ()
    routers: Sequence[str] = ()
    against: str | None = None
    dial: str = ""
    kv: str = "handoff"
    oracle: Path | None = None
    costs: str | None = None
    retry_temperature: float = 0.7
    max_steps: int = 50
    seed: int = 0
    temperature: float = 0.0
    constrain: bool = False
    ctx: int | None = None
    jobs: int = 1
    threads: int | None = None
    gpu_layers: GpuLayers = AUTO
    no_opening_store: bool = False
    dask: str | None = None
    store: Path | None = None
    play_crashed_again: bool = False
    traces: Path | None = None


def run_policies(options: PolicyOptions, outputs: Outputs) -> int:
    """Play what is not yet in the store, show the table; returns the exit code."""
    outputs.check()
    ladder, games = resolve(options.model, options.tiers), chosen_games(options)
    against = options.against or _against(ladder)
    of_rows: dict[str, Any] = {"kvs": _words(options.kv), "dials": _dials(options.dial)}
    of_rows |= {"auto": ladder.router, "against": against}
    rows = parse_rows(options.routers, **of_rows)
    settings, profile = settings_of(options, ladder), _profile(options, ladder)
    with stored_work(options) as work:
        policies = Policies(
            *(ladder.tiers, games, settings, work),
            profile=profile,
            plans=read_plans(options.oracle, [spec.name for spec in ladder.tiers])
            if options.oracle
            else None,
        )
        try:
            played = policies.play(rows)
            work.crew.close()  # a Ctrl-C while processes end is handled like any other
        except KeyboardInterrupt:
            say(f"edge-router: {interrupted(work)}", err=True)
            return 130
    # None: each row is compared with the high tier under its own KV mode.
    wanted = None if against == "high" else parse_rows([against], **of_rows)[-1]
    reference = next((p for p in played if p.row == wanted), None)
    table = summaries(played, policies.names, profile, reference=reference)
    settled = described(options, ladder, games, settings, profile) | {"against": against}
    outputs.write(results("policies", settled, {"policies": table}, threads=settings.threads))
    if options.traces and (command := _replay_command(played)):
        say(f"\nwatch a game again:\n{command}")
    return 0


@contextmanager
def stored_work(options: PolicyOptions) -> Iterator[StoredWork]:
    """The store, the processes and the progress line that the options ask for."""
    with (
        Store(options.store or default_store()) as store,
        Crew(Backend(options.jobs, options.dask)) as crew,
        ShownProgress() as shown,
    ):
        progress = GamesProgress(shown)
        yield StoredWork(store, crew, progress, crashed_again=options.play_crashed_again)
        if store.damaged:
            shown.note(f"{store.damaged} results in {store.path} were damaged and are made anew")


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


def interrupted(work: StoredWork) -> str:
    """What was saved when Ctrl-C came."""
    done, total = work.progress.done, work.progress.total
    return (
        f"interrupted: {done} of {total} games are kept in {work.store.path}; the same command goes"
        " on from there"
    )


def chosen_games(options: PolicyOptions) -> list[GameRef]:
    """All games of the split or folder, or N of them: spread over the list, which is by type."""
    looked = find_task(options.task).games(options.split, options.folder)
    if looked.note:
        say(f"edge-router: {looked.note}", err=True)
    found = looked.games
    wanted = len(found) if options.games is None else options.games
    if wanted > len(found):
        raise UserError(f"--games asks for {wanted} games and there are {len(found)}")
    return [found[i * len(found) // wanted] for i in range(wanted)]


def settings_of(options: PolicyOptions, ladder: LadderFile) -> Settings:
    headers = [read_header(spec.path) for spec in ladder.tiers]
    require_same_model(headers)
    for temperature in (options.temperature, options.retry_temperature):
        Sampler(temperature)  # refuses what is out of range
    return Settings(
        options=Options(
            max_steps=options.max_steps,
            seed=options.seed,
            temperature=options.temperature,
            constrain=options.constrain,
            prompt=prompt_override(
                find_task(options.task), ladder.prompt, [header.metadata for header in headers]
            ),
            fingerprints=False,
        ),
        n_ctx=options.ctx or default_context(ladder.tiers),
        threads=options.threads or 0,
        gpu_layers=options.gpu_layers,
        opening_store=not options.no_opening_store,
        retry_temperature=options.retry_temperature,
        traces=options.traces and _made(options.traces.expanduser()),
    )


def grown_from(ladder: LadderFile) -> str:
    """What ladder.toml says of a ladder that was grown to another model's shape, else ""."""
    source = read_details(ladder.folder).get("source", {}) if ladder.name else {}
    return str(source.get("grown", ""))


def _against(ladder: LadderFile) -> str:
    """What the rows are compared with: of a grown ladder the high tier as it runs without one."""
    return f"alone:{ladder.tiers[-1].name}" if grown_from(ladder) else "high"


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--traces {folder} cannot be made: {error.strerror}") from error
    return folder.absolute()


def _replay_command(played: Sequence[PlayedRow]) -> str:
    """The command that shows a game again: the first that some won and others lost, if any.

    On a screen each path has a line of its own, which a shell joins.
    """
    rows = [p for p in played if any(p.traces)]
    differ = [
        i for i in range(len(rows[0].traces)) if len({p.outcomes[i].won for p in rows}) > 1
    ] if rows else []  # fmt: skip
    traces = [p.traces[differ[0] if differ else 0] for p in rows]
    chosen = dict.fromkeys(
        [next(t for p, t in zip(rows, traces, strict=True) if p.outcomes[differ[0]].won is won)
         for won in (True, False)] if differ else traces[:1]
    )  # fmt: skip
    words = ["edge-router replay", *(shlex.quote(_from_here(trace)) for trace in chosen if trace)]
    return (" \\\n    " if columns() else " ").join(words) if chosen else ""


def _from_here(path: Path) -> str:
    """The path as it is typed in the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _profile(options: PolicyOptions, ladder: LadderFile) -> CostProfile | None:
    """The costs asked for, or those of this very ladder where it was calibrated."""
    if options.costs is None:
        return ladder_profile(ladder.name, ladder_fingerprint(ladder.tiers))
    profile = find_profile(options.costs)
    for spec in ladder.tiers:
        profile.tier(spec.name)
    return profile


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()] or [text]


def _dials(text: str) -> list[float]:
    try:
        dials = [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        dials = [-1.0]
    if not all(0 <= dial <= 1 for dial in dials):
        raise UserError(f"--dial {text}: dials are numbers between 0 and 1, joined by commas")
    return dials


def described(
    options: PolicyOptions,
    ladder: LadderFile,
    games: Sequence[GameRef],
    settings: Settings,
    profile: CostProfile | None,
) -> dict[str, Any]:
    """What a reader needs to run the same again."""
    return {
        "model": ladder.name or "given tiers",
        "tiers": {spec.name: spec.path.name for spec in ladder.tiers},
        "ladder": ladder_fingerprint(ladder.tiers),
        "split": options.split or (str(options.folder) if options.folder else "default"),
        "games": len(games),
        "game_ids": [game.id for game in games],
        "max_steps": options.max_steps,
        "seed": options.seed,
        "temperature": options.temperature,
        "retry_temperature": options.retry_temperature,
        "constrain": options.constrain,
        "n_ctx": settings.n_ctx,
        "prompt": style_for(
            find_task(options.task),
            read_header(ladder.tiers[0].path).metadata,
            settings.options.prompt,
        ).name,
        "jobs": options.jobs,
        "costs": None if profile is None else profile.model,
        "grown": grown_from(ladder),
    }
