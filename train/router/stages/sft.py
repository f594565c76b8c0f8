"""The second stage: supervise networks on where the tiers disagree, whatever came of it.

Cross-entropy, weighted by class, on one of three labels (see `labels`). One network
covers the whole front: each step of each epoch is shown with a dial of its own.

    action   the tiers' actions differ; the dial multiplies the odds of it, from e^-odds
             at 0 to e^odds at 1, which moves the network's threshold along the front
    oracle   likewise
    kl       KL(high || lower tier) is at least tau, a quantile that follows the dial, so
             that it sets the share of steps that count; `tau` fixes the quantile instead

The paper labels by KL. Here labels by action make the better front, because thoughts
that differ in their words raise the KL of steps that come to the same; every run trains on
the others as well and keeps the comparison.

The episodes behind the labels are walks of chance through the known tree, so
that the features of the route (who wrote the last steps) vary as they will.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_router.router.feature_table import column
from train.router import front, labels
from train.router.forest import Floats, Forest, Ints, Walks, walk
from train.router.network import NetPolicy, NetworkShape, RouterNet
from train.router.options import SftConfig
from train.router.policies import ChancePolicy
from train.router.run import Run, name_of, save_network

DIAL = column("dial")
LEAST, MOST = 0.01, 0.5  # share of steps that are sensitive at dial 0 and at dial 1
THRESHOLDS = (0.05, 0.2, 0.5, 0.8, 0.95)  # at which a network without a dial is judged


def supervise(run: Run) -> None:
    """Supervise every network; then, for the first, with other labels and other tau."""
    started, games, select = time.monotonic(), run.training_games(), run.select_games()
    table = []
    for shape in run.shapes:
        net = train(run.rollouts.forest, games, shape, run.options.sft)
        save_network(net, run.folder / f"sft-{name_of(shape)}.pt")
        table.append(_judged(run, net, select, name_of(shape)))
    if run.options.ablate:
        for what, config in ablations(run.options.sft):
            net = train(run.rollouts.forest, games, run.shapes[0], config)
            by_threshold = config.tau is not None
            table.append(_judged(run, net, select, what, by_threshold=by_threshold))
    run.keep_note("sft", {"networks": table}, started)


def ablations(config: SftConfig) -> Iterable[tuple[str, SftConfig]]:
    """Other labels, other measures of the KL, and tau fixed at several quantiles."""
    for label in ("kl", "oracle"):
        yield f"label: {label}, by dial", replace(config, label=label)
    for tau in (0.5, 0.7, 0.8, 0.9, 0.95, 0.98):
        yield f"label: kl sum, tau {tau:g}", replace(config, label="kl", tau=tau)
    for measure in ("mean", "max"):
        yield f"label: kl {measure}, tau 0.9", replace(config, label="kl", measure=measure, tau=0.9)


def _judged(
    run: Run, net: RouterNet, select: Ints, what: str, *, by_threshold: bool = False
) -> dict[str, Any]:
    """A network on the select games: at five dials, or at many thresholds."""
    forest, expand = run.rollouts.forest, run.rollouts.expand
    if by_threshold:
        policies = [NetPolicy(net, threshold=t) for t in THRESHOLDS]
        points = [front.point(forest, select, p, 0.5, expand) for p in policies]
    else:
        points = front.front(forest, select, net, expand=expand)
    score = front.score(points, run.success_alone(select, 0))
    shown = ", ".join(f"{100 * p.success:.1f} % at {100 * p.share:.0f} %" for p in points)
    run.say(f"{what}: score {score:.4f} ({shown})")
    return {"what": what, "score": score, "points": [asdict(p) for p in points]}


# -- one network --------------------------------------------------------------------------


def train(
    forest: Forest,
    games: Ints,
    shape: NetworkShape,
    config: SftConfig,
    divergences: Floats | None = None,
) -> RouterNet:
    """A network supervised on `games` (games,); the same arguments give the same network.

    `divergences` (rows, tiers) take the place of the KL where labels follow it.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng([config.seed, 77])
    # Episodes whose steps are to be labelled: the tree once for each chance of escalating, so
    # that features of the route take the values that they will have under any router.
    walks = _walks(forest, games, config)
    taken = walks.taken
    # The network's input scale is fixed by what it will see, dials included.
    net = RouterNet(shape)
    net.fit_normalisation(_with_dials(walks.features, rng)[taken])
    teacher = Teacher(forest, config, np.unique(walks.rows[taken]), divergences)
    episodes = walks.rows.shape[1]
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=1e-3)
    total = config.epochs * -(-episodes // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=total
    )
    # Minibatches of whole episodes, because the GRU reads them from the first step on.
    for _ in range(config.epochs):
        order = rng.permutation(episodes)
        for start in range(0, episodes, config.batch_size):
            part = order[start : start + config.batch_size]
            loss = _loss(net, walks, part, teacher, rng)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return net.eval()


def _walks(forest: Forest, games: Ints, config: SftConfig) -> Walks:
    n = len(config.chances)
    chances = np.repeat(np.array(config.chances), len(games))
    policy = ChancePolicy(chances, forest.tiers, [config.seed, 5])
    return walk(forest, np.tile(games, n), policy, stop_where_unknown=True)


def _with_dials(features: Floats, rng: np.random.Generator) -> Floats:
    """A copy with a dial of its own for each episode (steps, episodes, width)."""
    out = features.copy()
    out[:, :, DIAL] = rng.random(features.shape[1], np.float32)
    return out


def sensitive_share(dial: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of steps that count as sensitive at dials (n,): from LEAST to MOST, geometrically."""
    return np.asarray(LEAST * (MOST / LEAST) ** np.asarray(dial, np.float64))


class Teacher:
    """Labels for rows under dials, and what each class weighs."""

    def __init__(
        self,
        forest: Forest,
        config: SftConfig,
        rows: Ints,
        divergences: Floats | None = None,
    ) -> None:
        self._config = config
        kl = labels.divergence(forest, config.measure)
        self._kl = kl if divergences is None else divergences
        self._sorted = np.sort(self._kl[rows, 0])
        fixed = {"action": labels.by_action, "oracle": labels.by_oracle}.get(config.label)
        self._fixed = fixed(forest) if fixed is not None else None
        self._tiers = forest.tiers

    def label(self, rows: Ints, dials: NDArray[np.floating]) -> Ints:
        """(n,) labels of rows (n,) at dials (n,)."""
        if self._fixed is not None:
            return self._fixed[rows]
        quantile = 1.0 - sensitive_share(dials) if self._config.tau is None else self._config.tau
        last = len(self._sorted) - 1
        at = np.broadcast_to(np.asarray(quantile) * last, len(rows)).astype(np.int64)
        # A tau of 0 would make everything sensitive, equal texts included.
        tau = np.maximum(self._sorted[np.clip(at, 0, last)].astype(np.float64), 1e-6)
        return labels.by_kl(self._kl[rows], tau)

    def weights(self, found: Ints, dials: NDArray[np.floating]) -> Tensor:
        """What each label (n,) weighs: by how rare its class is, and by the dial (n,)."""
        labelled = found >= 0
        counts = np.bincount(found[labelled], minlength=self._tiers).astype(np.float64)
        weights = np.where(labelled, np.maximum(counts, 1.0)[found] ** -self._config.balance, 0.0)
        if self._fixed is not None:
            weights *= np.where(found > 0, np.exp(self._config.odds * (2.0 * dials - 1.0)), 1.0)
        return torch.from_numpy(weights).float()


def _loss(
    net: RouterNet, walks: Walks, part: Ints, teacher: Teacher, rng: np.random.Generator
) -> Tensor:
    """Weighted cross-entropy of the episodes `part` (n,), each under a fresh dial.

    Time comes first: features (steps, n, width), rows and taken (steps, n); labels, weights and
    logits hold the steps that were taken, (taken,) and (taken, tiers).
    """
    features = _with_dials(walks.features[:, part], rng)
    rows, taken = walks.rows[:, part], walks.taken[:, part]
    logits = net.sequence(torch.from_numpy(features))[torch.from_numpy(taken)]
    found = teacher.label(rows[taken], features[:, :, DIAL][taken])
    weights = teacher.weights(found, features[:, :, DIAL][taken])
    each = nn.functional.cross_entropy(
        logits, torch.from_numpy(found), ignore_index=labels.UNLABELLED, reduction="none"
    )
    return (each * weights).sum() / weights.sum().clamp_min(1e-9)
