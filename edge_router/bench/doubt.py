"""Measure how unsure a ladder's low tier is, so that a budget does not begin blind.

The low tier plays games of the built-in task alone. What the rules would have compared at its
steps is kept (`ladders.scores`).
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

from edge_router.agent.episode import Options, play_episode
from edge_router.agent.events import Event, StepFinished
from edge_router.engine.ladder import Ladder
from edge_router.errors import UserError
from edge_router.ladders.ladder_file import LadderFile
from edge_router.ladders.scores import keep_scores
from edge_router.router.base import Decision, Features, Router
from edge_router.router.budget import BudgetRouter
from edge_router.router.feature_table import DecideAt
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from edge_router.tasks.games import pick
from edge_router.tasks.registry import find_task
from edge_router.work.progress import Progress, silent

STEPS: Final = 40
# Their thresholds change no score. A trained router is left out: how often it escalates changes
# its features, and it begins at a dial that was measured.
_RULES: Final = ("entropy:0.5", "margin:0.1", "draft:0.5")


class ScoreMeter(Router):
    """Keeps every step on the low tier, and what the rules would compare there."""

    spec = RouterSpec("scores")
    decide_at: DecideAt = "draft"

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {rule: [] for rule in _RULES}
        self._rules = {rule: make_router(rule) for rule in _RULES}

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        for router in self._rules.values():
            router.reset(tiers, seed)

    def decide(self, features: Features) -> Decision:
        for rule, router in self._rules.items():
            score = router.decide(features).score
            assert score is not None, "these rules compare one"
            self.found[rule].append(score)
        return Decision(0, "measured")


def measure_scores(ladder: Ladder, described: LadderFile, progress: Progress = silent) -> None:
    """Play `STEPS` steps and keep their scores. Raises `UserError` where no game can be played."""
    meter, step = ScoreMeter(), progress("how unsure the low tier is", STEPS)

    def listener(event: Event) -> None:
        if isinstance(event, StepFinished):
            step()

    task, played, seed = find_task(), 0, 0
    games = task.games(None, None).games
    while played < STEPS:
        options = Options(STEPS - played, prompt=described.prompt, fingerprints=False)
        with closing(task.open(pick(games, "random", seed))) as game:
            finished = play_episode(game, ladder, meter, options, [listener])
        if finished.reason == "interrupted":
            raise KeyboardInterrupt
        if not finished.steps:
            raise UserError("a game ended before its first step")
        played, seed = played + finished.steps, seed + 1
    for rule, scores in meter.found.items():
        keep_scores(BudgetRouter(make_router(rule), 0.5), described, scores)
