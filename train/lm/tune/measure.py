"""Each tier of a finished ladder plays the same fresh games: is there anything to route?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from edge_router.agent.episode import Options, play_episode
from edge_router.convert.build import Made
from edge_router.engine.ladder import Ladder
from edge_router.engine.loading import default_context
from edge_router.engine.tier import TierSpec
from edge_router.results.file import write_json
from edge_router.router.registry import make_router
from edge_router.screen.tables import Sheet
from edge_router.tasks.alfworld.game import SimulatedGame
from edge_router.tasks.household.generator import draw_world
from edge_router.tasks.household.rules import KIND_NAMES
from edge_router.work.progress import Progress

SEED = "tune measured"  # of worlds that neither training nor its evaluations draw


@dataclass(frozen=True)
class TierResult:
    """A tier alone: for every game whether it won, in how many steps, of which some refused."""

    name: str
    size_bytes: int
    won: tuple[bool, ...]
    steps: int
    refused: int

    def row(self) -> tuple[str, ...]:
        games = len(self.won)
        return (
            self.name,
            f"{self.size_bytes / 1e6:.1f}",
            f"{sum(self.won)}/{games}",
            f"{self.steps / games:.1f}",
            f"{self.refused / self.steps:.1%}",
        )


def measured(made: Made, games: int, progress: Progress) -> list[TierResult]:
    """Play `games` games with every tier alone, low to high."""
    step = progress("games", total=games * len(made.tiers))
    results = []
    for tier in made.tiers:
        spec = TierSpec(tier.name, made.folder / tier.file)
        with Ladder.load((spec,), n_ctx=default_context((spec,))) as ladder:
            played = []
            for game in _games(games):
                played.append(play_episode(game, ladder, make_router("low"), _options(), []))
                step()
        won = tuple(p.won for p in played)
        steps, refused = sum(p.steps for p in played), sum(p.refused for p in played)
        results.append(TierResult(tier.name, spec.path.stat().st_size, won, steps, refused))
    return results


def _options() -> Options:
    return Options(fingerprints=False)


def _games(count: int) -> Sequence[SimulatedGame]:
    kinds = [KIND_NAMES[index % len(KIND_NAMES)] for index in range(count)]
    return [SimulatedGame(draw_world(Random(f"{SEED} {i}"), kind)) for i, kind in enumerate(kinds)]


def table(results: Sequence[TierResult]) -> str:
    columns = ("tier", "MB", "won", "steps", "refused")
    return Sheet(
        "Each tier alone, fresh generated games", columns, [r.row() for r in results]
    ).text()


def verdict(results: Sequence[TierResult]) -> str:
    """One sentence: which tier is worth routing from, if any."""
    high = results[-1]
    if not any(high.won):
        return f"{high.name} wins no game: train longer before you think of routing"
    worse = [
        (r, lost)
        for r in results[:-1]
        if (lost := sum(h and not w for h, w in zip(high.won, r.won, strict=True)))
        > 2 * sum(w and not h for h, w in zip(high.won, r.won, strict=True)) + 1
    ]
    if not worse:
        return (
            f"nothing to route on {len(high.won)} games: the lower tiers win what {high.name} wins;"
            f" play with {results[0].name} alone, or make a weaker tier"
        )
    tier, lost = worse[-1]
    of = f"{lost} of the {sum(high.won)} games that {high.name} wins"
    return f"{tier.name} loses {of}: there is something to route"


def write(results: Sequence[TierResult], path: Path) -> None:
    """Keep the results as JSON."""
    write_json(path, {"tiers": [asdict(r) for r in results], "verdict": verdict(results)})
