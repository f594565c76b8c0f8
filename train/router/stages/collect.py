"""The first stage: play the training games with every tier and keep each history.

Every training game is explored as planned (`explore.ExplorePlan`); of the games to
select on only what the tiers alone and the oracle need. All histories go to
`rollouts.sqlite`, from which every later stage reads.
"""

from __future__ import annotations

import time
from dataclasses import replace

from train.router.run import Run


def collect(run: Run) -> None:
    """Explore the games and say how far apart the ladder's ends are; leaves `collect.json`."""
    started, rollouts, names = time.monotonic(), run.rollouts, run.setting.names
    rollouts.collect(run.sets.train, run.options.plan, "training games")
    to_select_on = replace(run.options.plan, random=(), search=0)
    rollouts.collect(run.sets.select, to_select_on, "games to select on")
    games = run.training_games()
    low, high = (run.success_alone(games, tier) for tier in (0, len(names) - 1))
    run.keep_note(
        "collect",
        {
            "histories": rollouts.store.count(),
            "decoded_now": rollouts.decoded,
            "train_games": len(games),
            "success_low": low,
            "success_high": high,
        },
        started,
    )
    run.say(
        f"{rollouts.store.count()} histories; on the training games {names[0]} alone wins"
        f" {100 * low:.1f} %, {names[-1]} alone {100 * high:.1f} %"
    )
