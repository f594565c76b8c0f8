"""What a training run is made of: how much is explored, and how the networks are trained.

Names follow the PPO and GRPO papers. The defaults train the shipped router.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge_router.ladders.costs import CostProfile
from edge_router.router.feature_table import DecideAt
from edge_router.training import ITERATIONS, JOBS, SELECT_GAMES, TEST_GAMES, TRAIN_GAMES
from edge_router.work.pool import Backend
from train.router.explore import ExplorePlan


@dataclass(frozen=True)
class SftConfig:
    """How a network is supervised."""

    label: str = "action"  # or "kl", "oracle"
    odds: float = 3.0  # ln of what the dial multiplies the odds of "action" and "oracle" by
    measure: str = "sum"  # of the KL over the step's tokens: sum, mean or max
    tau: float | None = None  # quantile of the KL; None: set by the dial
    balance: float = 0.5  # class weights are frequencies to the power of minus this
    chances: tuple[float, ...] = (0.0, 0.0, 0.1, 0.3, 0.6)  # of escalating, in the walks
    epochs: int = 30
    batch_size: int = 512  # episodes
    learning_rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class GrpoConfig:
    """How the network is improved. `lambda_min` belongs to dial 1, `lambda_max` to dial 0."""

    iterations: int = ITERATIONS
    groups: int = 96  # games an iteration
    group_size: int = 16  # episodes of a game
    epochs: int = 3  # over the episodes of an iteration
    clip_range: float = 0.2
    learning_rate: float = 1e-3
    kl_coefficient: float = 0.03  # of KL(policy || supervised)
    entropy_coefficient: float = 0.003
    lambda_min: float = 0.003
    lambda_max: float = 1.0
    normalise_by: str = "batch"  # whose spread divides the advantages; or "group"
    contested: float = 0.5  # share of groups from games whose outcome depends on the router
    every: int = 50  # iterations between evaluations, growths of the tree and checkpoints
    grown_games: int = 32  # games that depend on the router, in which the tree grows each time
    grown_episodes: int = 2  # episodes of each
    seed: int = 0


@dataclass(frozen=True)
class RunOptions:
    """What a run is made of; the defaults train the shipped router."""

    train_games: int = TRAIN_GAMES
    select_games: int = SELECT_GAMES
    test_games: int = TEST_GAMES
    folder: Path | None = None  # games to use instead of generated ones
    plan: ExplorePlan = field(default_factory=ExplorePlan)
    states: tuple[int, ...] = (0, 24)  # GRU widths to try; 0 is the MLP
    decide_at: tuple[DecideAt, ...] = ("draft", "prompt")
    sft: SftConfig = field(default_factory=SftConfig)
    grpo: GrpoConfig = field(default_factory=GrpoConfig)
    profile: CostProfile | None = None  # costs in seconds; None: the escalation rate
    backend: Backend = field(default_factory=lambda: Backend(JOBS))  # where games are explored
    ablate: bool = True
