"""The state of a GRPO run, and how it is kept so that a killed run goes on where it was."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train import saved
from train.router.network import RouterNet


@dataclass
class GrpoState:
    """All that a run is made of, so that a killed one goes on as if nothing had been."""

    net: RouterNet
    optimiser: torch.optim.Optimizer
    iteration: int = 0
    entropy_weight: float = 0.0
    best_score: float = -math.inf
    best: dict[str, Tensor] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    contested: list[bool] = field(default_factory=list)  # of the games, when the run began


def save(state: GrpoState, path: Path) -> None:
    """Write a checkpoint so that it is whole or not there."""
    saved.save(
        {
            "net": state.net.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "iteration": state.iteration,
            "entropy_weight": state.entropy_weight,
            "best_score": state.best_score,
            "best": state.best,
            "log": state.log,
            "contested": state.contested,
        },
        path,
    )


def restore(state: GrpoState, path: Path) -> None:
    """Take over a checkpoint. Raises `UserError` when it is none of such a run."""
    with saved.loaded(path) as kept:
        state.net.load_state_dict(kept["net"])
        state.optimiser.load_state_dict(kept["optimiser"])
        state.iteration, state.entropy_weight = kept["iteration"], kept["entropy_weight"]
        state.best_score, state.best, state.log = kept["best_score"], kept["best"], kept["log"]
        state.contested = kept["contested"]
