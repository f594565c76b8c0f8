"""What a run is made of, and the model of its last checkpoint.

Below `train`, which writes checkpoints, and everything that only reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from train import saved
from train.lm.model import HouseholdLM, LmShape


@dataclass(frozen=True)
class LmConfig:
    """Everything that decides the result, kept in the checkpoint."""

    steps: int = 1400
    tokens: int = 8192  # a batch
    seed: int = 1
    muon_learning_rate: float = 0.02
    adam_learning_rate: float = 0.003
    warmup: int = 100
    decay_share: float = 0.35
    weight_decay: float = 0.01
    shape: LmShape = field(default_factory=LmShape)


def load_model(run: Path) -> HouseholdLM:
    """The model of a run's last checkpoint. Raises `UserError` when there is none."""
    with saved.loaded(run / "checkpoint.pt") as state:
        model = HouseholdLM(LmShape(**state["recipe"]["shape"]))
        model.load_state_dict(state["model"])
    return model
