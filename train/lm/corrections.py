"""Let the model play, and keep the episodes with the expert's corrections (DAgger).

    python -m train.lm.corrections --run runs/lm --games 2048 --out runs/lm/corrections.npz

Expert episodes do not show the states that the model's own mistakes lead to,
and there it repeats itself until the steps are gone. Here the model plays; half
of its wrong steps are replaced by the expert's, the other half happen and the
expert shows the way back (`watched.WatchedGame`). `train.lm.train --corrections` mixes
these episodes into its batches.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_router.files.whole import whole
from edge_router.tasks.household.generator import draw_world
from train.lm.model import HouseholdLM, load_model
from train.lm.rollout import PlayedGame, play
from train.lm.watched import summary

GROUP = 256  # games played at once


def collect(model: HouseholdLM, count: int, seed: int, correct: float = 0.5) -> list[PlayedGame]:
    """Games in which the model was wrong at least once, out of `count` played."""
    kept: list[PlayedGame] = []
    for group in range(0, count, GROUP):
        rng = random.Random(f"corrections {seed} {group}")
        games = play(model, [draw_world(rng) for _ in range(min(GROUP, count - group))], correct)
        kept += [g for g in games if g.agreed < g.steps]
        shares = {k: round(v, 3) for k, v in summary(games).items()}
        print(f"{group + len(games)}/{count} played, {len(kept)} kept  {shares}", flush=True)
    return kept


def save(games: Sequence[PlayedGame], path: Path) -> None:
    """One flat array of ids and of weights, and where each episode ends."""
    rows = [g.transcript.arrays() for g in games]
    with whole(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            ids=np.concatenate([ids for ids, _ in rows]),
            weights=np.concatenate([weights for _, weights in rows]),
            ends=np.cumsum([len(ids) for ids, _ in rows]),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/lm"))
    parser.add_argument("--out", type=Path, default=Path("runs/lm/corrections.npz"))
    parser.add_argument("--games", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    save(collect(load_model(args.run), args.games, args.seed), args.out)


if __name__ == "__main__":
    main()
