"""`edge-router bench tiers`: how well each tier plays alone, and how far it is from the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from edge_router.engine.tier_spec import ModelRuntime
from edge_router.evaluate.choices import EpisodeChoice, GameSet, WorkPlace, settings_of
from edge_router.evaluate.distance import (
    DistanceJob,
    GameDistance,
    TierDistance,
    crashed,
    measure_distance,
)
from edge_router.evaluate.policies import Policies
from edge_router.evaluate.rows import Row
from edge_router.evaluate.run_policies import described, interrupted
from edge_router.evaluate.summary import summaries
from edge_router.ladders.ladder_file import LadderFile
from edge_router.results.file import results
from edge_router.results.outputs import Outputs
from edge_router.results.statistics import ratio
from edge_router.router.spec import RouterSpec
from edge_router.screen.printable import say


def run_tiers(
    ladder: LadderFile,
    asked: GameSet,
    episode: EpisodeChoice,
    machine: ModelRuntime,
    place: WorkPlace,
    outputs: Outputs,
) -> int:
    """Play and compare what is not yet in the store, show the table; returns the exit code."""
    outputs.check()
    games, specs = asked.chosen(), tuple(ladder.tiers)
    settings = settings_of(ladder, asked.task, episode, machine)
    greedy = replace(settings.options, temperature=0.0)
    with place.opened() as work:
        policies = Policies(specs, games, settings, work)
        try:
            played = policies.play([Row("alone", RouterSpec("tier", spec.name)) for spec in specs])
            jobs = [DistanceJob(g, specs, greedy, settings.machine, place.jobs) for g in games]
            found = work.results(jobs, measure_distance, GameDistance, crashed)
            work.crew.close()  # a Ctrl-C while processes end is handled like any other
        except KeyboardInterrupt:
            say(f"edge-router: {interrupted(work)}", err=True)
            return 130
    rows = summaries(played, policies.names, None, reference=played[-1])
    table = [{**row, "distance": _distance(row["router"], found)} for row in rows]
    settled = described(ladder, asked, games, settings, place.jobs)
    threads = settings.machine.threads or 0
    outputs.write(results("tiers", settled, {"tiers": table}, threads=threads))
    return 0


def _distance(tier: str, games: Sequence[GameDistance]) -> Mapping[str, Any] | None:
    """A tier's distance from the high tier over all games, None for the high tier itself."""
    found = [d for game in games for d in game.tiers if d.tier == tier]
    if not found:
        return None
    return {
        "kl_per_token": _ratio([d.kl for d in found], [d.tokens for d in found]),
        "text_differs": _of_steps(found, "texts"),
        "action_differs": _of_steps(found, "actions"),
        "games": len(found),
    }


def _of_steps(found: Sequence[TierDistance], what: str) -> Any:
    return _ratio([getattr(d, what) for d in found], [d.steps for d in found])


def _ratio(top: Sequence[float], bottom: Sequence[float]) -> Any:
    estimate = ratio(top, bottom)
    return None if estimate is None else asdict(estimate)
