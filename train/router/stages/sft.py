"""Supervision: a step is sensitive if the tiers disagree there, whatever came of it.

Cross-entropy, weighted by class, on one of three labels (see `labels`). One network
covers the whole front: each step of each pass is shown with a dial of its own.

    action   the tiers' actions differ; the dial multiplies the odds of it, from e^-odds
             at 0 to e^odds at 1, which moves the network's threshold along the front
    oracle   likewise
    kl       KL(dearest || cheaper) is at least tau, a quantile that follows the dial, so
             that it sets the share of steps that count; `tau` fixes the quantile instead

The paper labels by KL. Here labels by action make the better front, because thoughts
that differ in their words raise the KL of steps that come to the same; every run trains on
the others as well and keeps the comparison.

The episodes behind the labels are walks of chance through the known tree, so
that the features of the route (who wrote the last steps) vary as they will.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_router.router.features import ALL_NAMES
from train.router import labels
from train.router.forest import Floats, Forest, Ints, Walks, walk
from train.router.network import RouterNet, Shape
from train.router.policies import ChancePolicy

DIAL = ALL_NAMES.index("dial")
LEAST, MOST = 0.01, 0.5  # share of steps that are sensitive at dial 0 and at dial 1


@dataclass(frozen=True)
class Recipe:
    """How a network is supervised."""

    label: str = "action"  # or "kl", "oracle"
    odds: float = 3.0  # ln of what the dial multiplies the odds of "action" and "oracle" by
    measure: str = "sum"  # of the KL over the step's tokens: sum, mean or max
    tau: float | None = None  # quantile of the KL; None: set by the dial
    balance: float = 0.5  # class weights are frequencies to the power of minus this
    chances: tuple[float, ...] = (0.0, 0.0, 0.1, 0.3, 0.6)  # of a dear tier, in the walks
    passes: int = 30
    batch: int = 512  # episodes
    rate: float = 3e-3
    seed: int = 0


def sensitive_share(dial: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of steps that count as sensitive at a dial: from LEAST to MOST, geometrically."""
    return np.asarray(LEAST * (MOST / LEAST) ** np.asarray(dial, np.float64))


def train(forest: Forest, games: Ints, shape: Shape, recipe: Recipe) -> RouterNet:
    """A supervised network; the same forest, shape and recipe give the same network."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng([recipe.seed, 77])
    walks = _walks(forest, games, recipe)
    taken = walks.taken
    net = RouterNet(shape)
    net.fit_normalisation(_with_dials(walks.features, rng)[taken])
    teacher = Teacher(forest, recipe, np.unique(walks.rows[taken]))
    episodes = walks.rows.shape[1]
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=1e-3)
    total = recipe.passes * -(-episodes // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=total)
    for _ in range(recipe.passes):
        order = rng.permutation(episodes)
        for start in range(0, episodes, recipe.batch):
            part = order[start : start + recipe.batch]
            loss = _loss(net, walks, part, teacher, rng)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return net.eval()


def _walks(forest: Forest, games: Ints, recipe: Recipe) -> Walks:
    n = len(recipe.chances)
    chances = np.repeat(np.array(recipe.chances), len(games))
    policy = ChancePolicy(chances, forest.tiers, [recipe.seed, 5])
    return walk(forest, np.tile(games, n), policy, stop_where_unknown=True)


def _with_dials(features: Floats, rng: np.random.Generator) -> Floats:
    """A copy with a dial of its own for each episode (steps, episodes, width)."""
    out = features.copy()
    out[:, :, DIAL] = rng.random(features.shape[1], np.float32)
    return out


class Teacher:
    """Labels for rows under dials, and what each class weighs."""

    def __init__(self, forest: Forest, recipe: Recipe, rows: Ints) -> None:
        self._recipe = recipe
        self._kl = labels.divergence(forest, recipe.measure)
        self._sorted = np.sort(self._kl[rows, 0])
        fixed = {"action": labels.by_action, "oracle": labels.by_oracle}.get(recipe.label)
        self._fixed = fixed(forest) if fixed is not None else None
        self._tiers = forest.tiers

    def label(self, rows: Ints, dials: NDArray[np.floating]) -> Ints:
        """(n,) labels of rows (n,) at dials (n,)."""
        if self._fixed is not None:
            return self._fixed[rows]
        quantile = 1.0 - sensitive_share(dials) if self._recipe.tau is None else self._recipe.tau
        last = len(self._sorted) - 1
        at = np.broadcast_to(np.asarray(quantile) * last, len(rows)).astype(np.int64)
        # A tau of 0 would make everything sensitive, equal texts included.
        tau = np.maximum(self._sorted[np.clip(at, 0, last)].astype(np.float64), 1e-6)
        return labels.by_kl(self._kl[rows], tau)

    def weights(self, found: Ints, dials: NDArray[np.floating]) -> Tensor:
        """What each label (n,) weighs: by how rare its class is, and by the dial (n,)."""
        labelled = found >= 0
        counts = np.bincount(found[labelled], minlength=self._tiers).astype(np.float64)
        weights = np.where(labelled, np.maximum(counts, 1.0)[found] ** -self._recipe.balance, 0.0)
        if self._fixed is not None:
            weights *= np.where(found > 0, np.exp(self._recipe.odds * (2.0 * dials - 1.0)), 1.0)
        return torch.from_numpy(weights).float()


def _loss(
    net: RouterNet, walks: Walks, part: Ints, teacher: Teacher, rng: np.random.Generator
) -> Tensor:
    features = _with_dials(walks.features[:, part], rng)
    rows, taken = walks.rows[:, part], walks.taken[:, part]
    logits = net.sequence(torch.from_numpy(features))[torch.from_numpy(taken)]
    found = teacher.label(rows[taken], features[:, :, DIAL][taken])
    weights = teacher.weights(found, features[:, :, DIAL][taken])
    each = nn.functional.cross_entropy(
        logits, torch.from_numpy(found), ignore_index=labels.UNLABELLED, reduction="none"
    )
    return (each * weights).sum() / weights.sum().clamp_min(1e-9)
