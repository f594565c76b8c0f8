"""What routing buys: games x routers x KV modes on the real engine, each game run once, ever.

    table = Policies(ladder, games, settings, work).play(rows)

Rows that refer to another row's outcome come after it: `matched` needs the shares of tiers,
`retry` the seconds. Everything else is independent and runs in parallel; each game is stored as
it ends, so an interrupted run goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from edge_router.agent.episode import Options
from edge_router.engine.lookup import USUAL
from edge_router.engine.tier import TierSpec
from edge_router.engine.tier_spec import DEFAULT_CONTEXT, ModelRuntime
from edge_router.errors import UserError
from edge_router.evaluate.jobs import EXPERT, GameJob, crashed, episode_seed, play_job
from edge_router.evaluate.records import GameRecord
from edge_router.evaluate.rows import LOW, REWRITE, Row, check_rows, mix_spec, plan_spec
from edge_router.files.data_files import read_object
from edge_router.ladders.costs import CostProfile
from edge_router.router.spec import RouterSpec
from edge_router.tasks.games import GameRef
from edge_router.work.store import StoredWork

PLANS: Final = "edge-router/plans/1"
MAX_ATTEMPTS: Final = 10
Plans = Mapping[str, tuple[int, ...]]


def _one_thread() -> ModelRuntime:
    return ModelRuntime(threads=1, ctx=DEFAULT_CONTEXT)


@dataclass(frozen=True)
class Settings:
    """What holds for every game of a run."""

    options: Options = field(default_factory=Options)
    machine: ModelRuntime = field(default_factory=_one_thread)  # with a context of its own
    retry_temperature: float = 0.7
    traces: Path | None = None  # the folder of the episodes' traces


@dataclass(frozen=True)
class Outcome:
    """One game of one row: its attempts, of which only `retry` has more than one."""

    attempts: tuple[GameRecord, ...]

    @property
    def last(self) -> GameRecord:
        return self.attempts[-1]

    @property
    def won(self) -> bool:
        return self.last.won

    @property
    def measured_seconds(self) -> float:
        return sum(a.measured_seconds for a in self.attempts)

    @property
    def wall_s(self) -> float:
        """Seconds of all attempts, the environment's too; 0 where one was not timed."""
        times = [a.wall_s for a in self.attempts]
        return sum(times) if all(times) else 0.0

    @property
    def actions(self) -> tuple[str, ...]:
        return tuple(action for a in self.attempts for action in a.actions)

    def seconds(self, profile: CostProfile) -> float:
        return sum(a.seconds(profile) for a in self.attempts)


@dataclass(frozen=True)
class PlayedRow:
    """A row and its games, in the order of the games asked for."""

    row: Row
    outcomes: tuple[Outcome, ...]
    note: str = ""
    traces: tuple[Path | None, ...] = ()  # of the games' first attempts


def require_playable(rows: Sequence[Row], names: tuple[str, ...], plans: Plans | None) -> None:
    """Raise UserError for a row that tiers called `names` cannot play, or that lacks its plans."""
    check_rows(rows, names)
    if any(row.how == "oracle" for row in rows) and plans is None:
        raise UserError("the row oracle needs plans: give --oracle FILE")


class Policies:
    """Plays rows of games, with results kept in a store."""

    def __init__(
        self,
        specs: Sequence[TierSpec],
        games: Sequence[GameRef],
        settings: Settings,
        work: StoredWork,
        *,
        profile: CostProfile | None = None,
        plans: Plans | None = None,
    ) -> None:
        self.specs, self.games, self.settings = tuple(specs), tuple(games), settings
        self.work, self.profile, self.plans = work, profile, plans

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.specs)

    def play(self, rows: Sequence[Row]) -> list[PlayedRow]:
        """Play all rows; the outcomes have their order. Raises UserError before the first game."""
        require_playable(rows, self.names, self.plans)
        played: dict[Row, PlayedRow] = {}
        first = [row for row in rows if row.how not in ("matched", "retry")]
        self._play_together({row: self._jobs(row) for row in first}, played)
        matched = [row for row in rows if row.how == "matched"]
        mixes = {row: self._mix(played[row.base]) for row in matched}
        self._play_together({row: self._jobs(row, mixes[row]) for row in matched}, played)
        for row in rows:
            if row.how == "retry":
                played[row] = self._retry(row, played[row.base])
        return [played[row] for row in rows]

    # -- rows to jobs --------------------------------------------------------------------------

    def _jobs(self, row: Row, router: RouterSpec | None = None) -> list[GameJob]:
        """The row's games; `router` where it is not what the row is called."""
        specs = self.specs
        if row.how == "alone":
            specs, router = tuple(s for s in self.specs if s.name == row.tier), LOW
        elif row.how == "expert":
            specs, router = (), RouterSpec(EXPERT)
        chosen = router or row.router  # None for the oracle, who has a plan for each game
        return [
            self._job(game, specs, chosen or plan_spec(self._plan(game)), row)
            for game in self.games
        ]

    def _job(
        self,
        game: GameRef,
        specs: tuple[TierSpec, ...],
        router: RouterSpec,
        row: Row,
        attempt: int = 0,
    ) -> GameJob:
        settings, options = self.settings, self.settings.options
        if row.dial is not None:
            options = replace(options, dial=row.dial)
        if attempt:
            options = replace(options, temperature=settings.retry_temperature)
        if row.how == REWRITE:
            options = replace(options, escalate="rewrite")
        if row.lookup:
            options = replace(options, lookup=USUAL)
        options = replace(
            options, seed=episode_seed(options.seed, game.id, attempt), fingerprints=False
        )
        return GameJob(
            *(game, specs, router, row.kv or "handoff", options, settings.machine),
            attempt=attempt,
            jobs=self.work.crew.backend.jobs,
            traces=settings.traces,
        )

    def _plan(self, game: GameRef) -> tuple[int, ...]:
        return (self.plans or {}).get(game.id, ())

    def _mix(self, base: PlayedRow) -> RouterSpec:
        """The mix that gives each tier the share it had in a row."""
        steps = [s.tier for o in base.outcomes for a in o.attempts for s in a.steps]
        return mix_spec([steps.count(name) / max(1, len(steps)) for name in self.names])

    # -- playing ---------------------------------------------------------------------------------

    def _play_together(
        self, jobs: Mapping[Row, Sequence[GameJob]], played: dict[Row, PlayedRow]
    ) -> None:
        """Play the games of several rows in one go, so that no process waits for a row's end."""
        records = iter(self._records([job for row in jobs.values() for job in row]))
        for row, its in jobs.items():
            outcomes = tuple(Outcome((next(records),)) for _ in its)
            played[row] = PlayedRow(row, outcomes, traces=tuple(job.trace for job in its))

    def _records(self, jobs: Sequence[GameJob]) -> list[GameRecord]:
        return self.work.results(jobs, play_job, GameRecord, crashed)

    # -- the same budget, spent on the low tier ----------------------------------------------------

    def cost(self, record: GameRecord) -> float:
        """Seconds by the profile, or as measured where there is none."""
        return record.seconds(self.profile) if self.profile else record.measured_seconds

    def _retry(self, row: Row, base: PlayedRow) -> PlayedRow:
        """Play lost games again on the low tier until the base row's seconds are spent.

        The first attempt is greedy, later ones draw with the retry temperature. The budget is
        that of all games together: what easy games leave over goes to hard ones. An attempt
        that would exceed it is not counted, and none after it.
        """
        budget = sum(self.cost(a) for o in base.outcomes for a in o.attempts)
        low = replace(row, how="play", router=LOW, dial=None)
        records = self._records(self._jobs(low))
        attempts = {g.id: [r] for g, r in zip(self.games, records, strict=True)}
        spent = sum(self.cost(r) for r in records)
        note = "its first attempts alone cost more" if spent > budget else ""
        for attempt in range(1, MAX_ATTEMPTS):
            lost = [g for g in self.games if not attempts[g.id][-1].won]
            if not lost or spent > budget:
                break
            again = [self._job(g, self.specs, LOW, low, attempt) for g in lost]
            for game, record in zip(lost, self._records(again), strict=True):
                spent += self.cost(record)
                if spent > budget:
                    break
                attempts[game.id].append(record)
        return PlayedRow(row, tuple(Outcome(tuple(attempts[g.id])) for g in self.games), note)


def read_plans(path: Path, names: Sequence[str]) -> Plans:
    """An oracle's plans for tiers called `names`: game id -> tier of each step. Raises UserError.

    `{"schema": "edge-router/plans/1", "plans": {"<task folder>/<trial folder>": [0, 1, 0]}}`
    A game without a plan is played on the low tier.
    """
    data = read_object(path, "plans for an oracle")
    try:
        if data.get("schema") != PLANS:
            raise ValueError(f"its schema is {data.get('schema')!r}, not {PLANS!r}")
        if data.get("tiers", list(names)) != list(names):
            raise ValueError(f"they are for the tiers {data['tiers']}, not {list(names)}")
        plans = {str(game): tuple(map(int, plan)) for game, plan in data["plans"].items()}
        unknown = {tier for plan in plans.values() for tier in plan} - set(range(len(names)))
        if unknown:
            raise ValueError(f"the ladder has {len(names)} tiers from 0 on, and no {min(unknown)}")
        return plans
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} holds no plans for an oracle: {error}") from error
