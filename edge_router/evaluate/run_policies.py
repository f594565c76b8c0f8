"""`edge-router bench policies`: plays the rows' games and shows the table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_router.engine.gguf_file import read_header
from edge_router.engine.tier_spec import ModelRuntime
from edge_router.engine.trust import ladder_fingerprint
from edge_router.evaluate.choices import (
    EpisodeChoice,
    GameSet,
    RowChoice,
    WorkPlace,
    settings_of,
)
from edge_router.evaluate.policies import PlayedRow, Policies, Settings, require_playable
from edge_router.evaluate.summary import summaries
from edge_router.ladders.ladder_file import LadderFile
from edge_router.ladders.resolve import PlannedLadder
from edge_router.results.file import results
from edge_router.results.outputs import Outputs
from edge_router.screen.printable import columns, say
from edge_router.tasks.games import GameRef
from edge_router.tasks.registry import find_task, style_for
from edge_router.work.store import StoredWork


def run_policies(
    planned: PlannedLadder,
    asked: GameSet,
    who: RowChoice,
    episode: EpisodeChoice,
    machine: ModelRuntime,
    place: WorkPlace,
    outputs: Outputs,
) -> int:
    """Play what is not yet in the store, show the table; returns the exit code.

    Everything that can be refused is refused before a planned ladder is made.
    """
    outputs.check({"--oracle": who.oracle, "--store": place.store})
    games = asked.chosen()
    _require_playable(planned.described, asked, who, episode, machine)
    place.check()
    ladder = planned.made()
    line_up = who.line_up(ladder)
    settings, profile = settings_of(ladder, asked.task, episode, machine), line_up.profile
    with place.opened() as work:
        policies = Policies(
            *(ladder.tiers, games, settings, work), profile=profile, plans=line_up.plans
        )
        try:
            played = policies.play(line_up.rows)
            work.crew.close()  # a Ctrl-C while processes end is handled like any other
        except KeyboardInterrupt:
            say(f"edge-router: {interrupted(work)}", err=True)
            return 130
    reference = next((p for p in played if p.row == line_up.reference), None)
    table = summaries(played, policies.names, profile, reference=reference)
    settled = described(ladder, asked, games, settings, place.jobs) | {
        "costs": None if profile is None else profile.model,
        "costs_predicted": "" if profile is None else profile.predicted,
        "against": line_up.against,
    }
    threads = settings.machine.threads or 0
    outputs.write(results("policies", settled, {"policies": table}, threads=threads))
    if settings.traces and (command := _replay_command(played)):
        say(f"\nwatch a game again:\n{command}")
    return 0


def _require_playable(
    ladder: LadderFile,
    asked: GameSet,
    who: RowChoice,
    episode: EpisodeChoice,
    machine: ModelRuntime,
) -> None:
    """Raise `UserError` for rows or settings that are none on this ladder."""
    line_up = who.line_up(ladder)
    require_playable(line_up.rows, tuple(spec.name for spec in ladder.tiers), line_up.plans)
    settings_of(ladder, asked.task, episode, machine)


def interrupted(work: StoredWork) -> str:
    """What was saved when Ctrl-C came."""
    done, total = work.progress.done, work.progress.total
    return (
        f"interrupted: {done} of {total} games are kept in {work.store.path}; the same command goes"
        " on from there"
    )


def described(
    ladder: LadderFile, asked: GameSet, games: Sequence[GameRef], settings: Settings, jobs: int
) -> dict[str, Any]:
    """What a reader needs to run the same again."""
    options = settings.options
    header, task = read_header(ladder.tiers[0].path), find_task(asked.task)
    return {
        "model": ladder.name or "given tiers",
        "tiers": {spec.name: spec.path.name for spec in ladder.tiers},
        "ladder": ladder_fingerprint(ladder.tiers),
        "split": asked.origin,
        "games": len(games),
        "game_ids": [game.id for game in games],
        "max_steps": options.max_steps,
        "seed": options.seed,
        "temperature": options.temperature,
        "retry_temperature": settings.retry_temperature,
        "constrain": options.constrain,
        "n_ctx": settings.machine.ctx,
        "prompt": style_for(task, header.metadata, options.prompt).name,
        "jobs": jobs,
        "costs": None,
        "grown": ladder.grown,
    }


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
