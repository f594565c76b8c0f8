"""`edge-router bench tiers`: how well each tier plays alone, and how far it is from the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from edge_router.evaluate.distance import (
    DistanceJob,
    GameDistance,
    TierDistance,
    crashed,
    measure_distance,
)
from edge_router.evaluate.policies import Policies
from edge_router.evaluate.rows import Row
from edge_router.evaluate.run_policies import (
    PolicyOptions,
    chosen_games,
    described,
    interrupted,
    settings_of,
    stored_work,
)
from edge_router.evaluate.summary import summaries
from edge_router.ladders.resolve import resolve
from edge_router.results.file import results
from edge_router.results.outputs import Outputs
from edge_router.results.statistics import ratio
from edge_router.router.spec import RouterSpec
from edge_router.screen.printable import say


def run_tiers(options: PolicyOptions, outputs: Outputs) -> int:
    """Play and compare what is not yet in the store, show the table; returns the exit code."""
    outputs.check()
    ladder, games = resolve(options.model, options.tiers), chosen_games(options)
    settings = settings_of(options, ladder)
    specs = tuple(ladder.tiers)
    with stored_work(options) as work:
        policies = Policies(specs, games, settings, work)
        try:
            played = policies.play([Row("alone", RouterSpec("tier", spec.name)) for spec in specs])
            jobs = [
                DistanceJob(g, specs, replace(settings.options, temperature=0.0), settings.n_ctx,
                            settings.threads, options.jobs, settings.gpu_layers,
                            settings.opening_store)
                for g in games
            ]  # fmt: skip
            found = work.results(jobs, measure_distance, GameDistance, crashed)
            work.crew.close()  # a Ctrl-C while processes end is handled like any other
        except KeyboardInterrupt:
            say(f"edge-router: {interrupted(work)}", err=True)
            return 130
    rows = summaries(played, policies.names, None, reference=played[-1])
    table = [{**row, "distance": _distance(row["router"], found)} for row in rows]
    data = results(
        "tiers", described(options, ladder, games, settings, None), {"tiers": table},
        threads=settings.threads,
    )  # fmt: skip
    outputs.write(data)
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
