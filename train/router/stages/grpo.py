"""GRPO on the rollout tree: groups of episodes of one game that differ in the router's draws.

    reward = (won - lambda(dial) * cost) / (1 + lambda(dial))

Cost 1 is an episode all on the dearest tier. Each group has a dial of its own,
which the network sees and which sets lambda, so one network learns the whole
front; the divisor keeps groups of a high lambda from drowning the others.

What one iteration does: play groups through the known tree, centre the rewards in
each group, improve the clipped objective for a few passes, held near the
supervised network by a KL term and kept open by an entropy bonus. Before every
`every` iterations the tree grows where the network of that moment goes.

Where it departs from textbook GRPO, and from the paper:

- Advantages are divided by the spread of all centred rewards of the iteration,
  not of their group. Most games are won whatever the router does: in such a
  group only the cost differs, and dividing by its own tiny spread would make a
  step saved there worth as much as a game lost elsewhere, whatever lambda says
  (`spread="group"` is the textbook's).
- Games whose outcome depends on the router are played more often than they
  occur, and weighted back.
- Between two growths of the tree nothing is decoded: an episode that leaves the known tree
  takes no part in its group. That makes an iteration cost milliseconds, and a run that was
  killed repeat itself exactly.
- All steps of an iteration weigh the same, not all episodes.
- The action is a choice among a few tiers and the policy a few thousand weights, so the whole
  front is one network with lambda as an input, where the paper trains one router a trade-off.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train.router import front
from train.router.charges import by_share
from train.router.forest import Expand, Forest, Ints, Walks, walk
from train.router.front import Point
from train.router.network import NetPolicy, RouterNet
from train.router.policies import FixedPolicy

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """How the network is improved. `lambda_least` belongs to dial 1, `lambda_most` to dial 0."""

    iterations: int = 150
    groups: int = 96  # games an iteration
    size: int = 16  # episodes of a game
    passes: int = 3
    clip: float = 0.2
    rate: float = 1e-3
    kl: float = 0.03  # weight of KL(policy || supervised)
    entropy: float = 0.003
    lambda_least: float = 0.003
    lambda_most: float = 1.0
    spread: str = "batch"  # or "group"
    contested: float = 0.5  # share of groups from games whose outcome depends on the router
    every: int = 50  # iterations between judgements, growths of the tree and checkpoints
    grown_games: int = 32  # games that depend on the router, in which the tree grows each time
    grown_episodes: int = 2  # episodes of each
    seed: int = 0


def price(dial: NDArray[np.floating] | float, recipe: Recipe) -> Doubles:
    """lambda at a dial: from `lambda_most` at 0 to `lambda_least` at 1, geometrically."""
    ratio = recipe.lambda_least / recipe.lambda_most
    return np.asarray(recipe.lambda_most * ratio ** np.asarray(dial, np.float64))


def advantages(
    rewards: Doubles, spread: str = "batch", valid: NDArray[np.bool_] | None = None
) -> Doubles:
    """Rewards (groups, size) centred in their group and scaled; 0 in groups without a difference.

    "group" divides by each group's own standard deviation, "batch" by the root mean square of
    all centred rewards. Episodes that are not `valid` count for nothing and get 0.
    """
    weight = np.ones(rewards.shape) if valid is None else valid.astype(np.float64)
    count = np.maximum(1.0, weight.sum(1, keepdims=True))
    centred = (rewards - (rewards * weight).sum(1, keepdims=True) / count) * weight
    if spread == "group":
        scale = np.sqrt((centred**2).sum(1, keepdims=True) / count)
    else:
        every = math.sqrt(float((centred**2).sum() / max(1.0, weight.sum())))
        scale = np.full((len(rewards), 1), every)
    return np.asarray(np.where(scale > 1e-8, centred / np.maximum(scale, 1e-8), 0.0))


def clipped(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's objective of each step: the smaller of the plain and the clipped product."""
    bounded = ratio.clamp(1.0 - clip, 1.0 + clip)
    return torch.minimum(ratio * advantage, bounded * advantage)


def divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(policy || reference) of each step, nats; logits (..., tiers)."""
    p, q = torch.log_softmax(logits, -1), torch.log_softmax(reference, -1)
    return (p.exp() * (p - q)).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """Of each step's choice, nats."""
    p = torch.log_softmax(logits, -1)
    return -(p.exp() * p).sum(-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the steps that were taken; what is masked may hold anything finite."""
    return (values * mask).sum() / mask.sum().clamp_min(1)


# -- a run ------------------------------------------------------------------------------


@dataclass
class State:
    """All that a run is made of, so that a killed one goes on as if nothing had been."""

    net: RouterNet
    optimiser: torch.optim.Optimizer
    iteration: int = 0
    entropy_weight: float = 0.0
    best_score: float = -math.inf
    best: dict[str, Tensor] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    contested: list[bool] = field(default_factory=list)  # of the games, when the run began


Tell = Callable[[State, int], None]


@dataclass
class Trainer:
    """GRPO from a supervised network; `judged` are games that the best network is chosen on."""

    forest: Forest
    games: Ints
    judged: Ints
    supervised: RouterNet
    recipe: Recipe
    expand: Expand | None = None
    charge: Callable[[Forest], Doubles] = by_share
    _is_contested: NDArray[np.bool_] | None = None
    _unit: float | None = None
    _charged: Doubles | None = None

    def run(self, checkpoint: Path | None = None, tell: Tell | None = None) -> State:
        """Train to the end, from `checkpoint` where there is one; the best network is in `net`."""
        state = self._start(checkpoint)
        while state.iteration < self.recipe.iterations:
            if state.iteration % self.recipe.every == 0:
                self._judge(state)
                self._grow(state)
            self._iterate(state)
            state.iteration += 1
            if tell is not None:
                tell(state, self.recipe.iterations)
            if checkpoint is not None and state.iteration % self.recipe.every == 0:
                save(state, checkpoint)
        self._judge(state)
        if checkpoint is not None:
            save(state, checkpoint)
        state.net.load_state_dict(state.best)
        return state

    def _start(self, checkpoint: Path | None) -> State:
        net = deepcopy(self.supervised).train()
        optimiser = torch.optim.Adam(net.parameters(), lr=self.recipe.rate)
        state = State(net, optimiser, entropy_weight=self.recipe.entropy)
        if checkpoint is not None and checkpoint.is_file():
            restore(state, checkpoint)
            self._is_contested = np.array(state.contested)
        else:
            state.contested = [bool(c) for c in self._contested()]
            if checkpoint is not None:
                save(state, checkpoint)
        return state

    # -- playing ------------------------------------------------------------------------

    def _grow(self, state: State) -> None:
        """Make known what the network's own draws lead to, in some games that depend on it."""
        contested = self.games[self._contested()]
        if self.expand is None or not len(contested):
            return
        rng = np.random.default_rng([self.recipe.seed, state.iteration, 1])
        games = np.repeat(
            rng.choice(contested, min(self.recipe.grown_games, len(contested)), replace=False),
            self.recipe.grown_episodes,
        )
        policy = NetPolicy(state.net, generator=rng)
        dials = rng.random(len(games), np.float32)
        walk(self.forest, games, policy, dials=dials, expand=self.expand)

    def _iterate(self, state: State) -> None:
        recipe, i = self.recipe, state.iteration
        rng = np.random.default_rng([recipe.seed, i])
        games, importance = self._draw_games(rng)
        dials = rng.random(len(games), np.float32)
        policy = NetPolicy(state.net, generator=rng)
        walks = walk(
            self.forest,
            np.repeat(games, recipe.size),
            policy,
            dials=np.repeat(dials, recipe.size),
            stop_where_unknown=True,
        )
        cost = self._cost(walks)
        charged = price(np.repeat(dials, recipe.size), recipe)
        rewards = (walks.won - charged * cost) / (1.0 + charged)
        valid = walks.whole.reshape(-1, recipe.size)
        grouped = advantages(rewards.reshape(-1, recipe.size), recipe.spread, valid)
        advantage = (grouped * importance[:, None]).ravel()
        told = self._improve(state, walks, advantage)
        dear = (walks.tiers > 0) & walks.taken
        weight = np.repeat(importance, recipe.size) * walks.whole
        state.log.append(
            {
                "iteration": i,
                "reward": float(np.average(rewards, weights=weight)),
                "success": float(np.average(walks.won, weights=weight)),
                "share": float(dear.sum() / walks.taken.sum()),
                "known": float(walks.whole.mean()),
                **told,
            }
        )

    def _draw_games(self, rng: np.random.Generator) -> tuple[Ints, Doubles]:
        """Games of an iteration and the weight that makes up for how often they are drawn."""
        contested = self._contested()
        share, wanted = contested.mean(), self.recipe.contested
        if not 0 < share < 1:
            return rng.choice(self.games, self.recipe.groups), np.ones(self.recipe.groups)
        first = round(self.recipe.groups * wanted)
        drawn = [
            rng.choice(self.games[contested], first),
            rng.choice(self.games[~contested], self.recipe.groups - first),
        ]
        weights = [
            np.full(first, share * self.recipe.groups / max(1, first)),
            np.full(
                self.recipe.groups - first,
                (1 - share) * self.recipe.groups / max(1, self.recipe.groups - first),
            ),
        ]
        return np.concatenate(drawn), np.concatenate(weights)

    def _contested(self) -> NDArray[np.bool_]:
        """Which of the games some known episode wins and another loses, when the run began."""
        if self._is_contested is None:
            won, lost = self._outcomes()
            self._is_contested = won[self.games] & lost[self.games]
        return self._is_contested

    def _outcomes(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        f = self.forest
        won, lost = np.zeros(len(f.trees), bool), np.zeros(len(f.trees), bool)
        ends = np.flatnonzero(f.done[: f.size])
        won[f.game[ends[f.won[ends]]]] = True
        lost[f.game[ends[~f.won[ends]]]] = True
        return won, lost

    def _cost(self, walks: Walks) -> Doubles:
        """Each episode's cost; 1 is what an episode on the dearest tier costs on average."""
        if self._unit is None:
            dearest = FixedPolicy(self.forest.tiers - 1)
            alone = walk(self.forest, self.games, dearest, expand=self.expand)
            self._unit = float(alone.cost(self.charge(self.forest)).mean())
        return walks.cost(self._charges()) / self._unit

    def _charges(self) -> Doubles:
        """The charge of every row, computed again only when the tree has grown."""
        if self._charged is None or len(self._charged) != self.forest.size:
            self._charged = self.charge(self.forest)
        return self._charged

    # -- learning -----------------------------------------------------------------------

    def _improve(self, state: State, walks: Walks, advantage: Doubles) -> dict[str, float]:
        features = torch.from_numpy(walks.features)
        mask = torch.from_numpy(walks.taken & walks.whole)
        tiers = torch.from_numpy(walks.tiers)
        gain = torch.from_numpy(advantage).float().expand(walks.rows.shape)
        with torch.no_grad():
            reference = self.supervised.sequence(features)
            before = _chosen(state.net.sequence(features), tiers)
        told: dict[str, float] = {}
        for _ in range(self.recipe.passes):
            logits = state.net.sequence(features)
            ratio = (_chosen(logits, tiers) - before).exp()
            kl = masked_mean(divergence(logits, reference), mask)
            spread = masked_mean(entropy(logits), mask)
            objective = masked_mean(clipped(ratio, gain, self.recipe.clip), mask)
            loss = self.recipe.kl * kl - objective - state.entropy_weight * spread
            state.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(state.net.parameters(), 1.0)
            state.optimiser.step()
            told = {"kl": float(kl.detach()), "entropy": float(spread.detach())}
        return told

    # -- judging ------------------------------------------------------------------------

    def _judge(self, state: State) -> None:
        """Score the greedy network on the judged games, keep the best, and look for a collapse."""
        if state.log and "points" in state.log[-1]:
            return  # judged already, before the run was killed
        points = front.front(self.forest, self.judged, state.net, expand=self.expand)
        score = front.score(points, self._low())
        entry = {
            "iteration": state.iteration,
            "score": score,
            "points": [asdict(p) for p in points],
        }
        if score >= state.best_score:
            state.best_score = score
            state.best = {k: v.clone() for k, v in state.net.state_dict().items()}
        elif collapsed(points):
            state.net.load_state_dict(state.best)
            state.entropy_weight *= 2
            entry["collapsed"] = True
        state.log.append(entry)

    def _low(self) -> float:
        return front.point(self.forest, self.judged, FixedPolicy(0), 0.5, self.expand).success


def collapsed(points: list[Point]) -> bool:
    """Whether the router does the same at every dial: nearly always low, or nearly always high."""
    shares = [p.share for p in points]
    return max(shares) < 0.005 or min(shares) > 0.95


def _chosen(logits: Tensor, tiers: Tensor) -> Tensor:
    """ln p of the tier that was chosen, at every step."""
    return torch.log_softmax(logits, -1).gather(-1, tiers[..., None])[..., 0]


def save(state: State, path: Path) -> None:
    """Write a checkpoint so that it is whole or not there."""
    partial = path.with_name(path.name + ".partial")
    torch.save(
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
        partial,
    )
    os.replace(partial, path)


def restore(state: State, path: Path) -> None:
    """Take over a checkpoint."""
    kept = torch.load(path, weights_only=True)
    state.net.load_state_dict(kept["net"])
    state.optimiser.load_state_dict(kept["optimiser"])
    state.iteration, state.entropy_weight = kept["iteration"], kept["entropy_weight"]
    state.best_score, state.best, state.log = kept["best_score"], kept["best"], kept["log"]
    state.contested = kept["contested"]
