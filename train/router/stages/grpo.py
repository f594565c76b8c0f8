"""The third stage, GRPO: groups of episodes of one game that differ in the router's draws.

    reward = (won - lambda(dial) * cost) / (1 + lambda(dial))

Cost 1 is an episode all on the high tier. Each group has a dial of its own,
which the network sees and which sets lambda, so one network learns the whole
front; the divisor keeps groups of a high lambda from drowning the others.

What one iteration does: play groups through the known tree, centre the rewards in
each group, improve the clipped objective for a few epochs, held near the
supervised network by a KL term and kept open by an entropy bonus. Before every
`every` iterations the tree grows where the network of that moment goes.

Where it departs from textbook GRPO, and from the paper:

- Advantages are divided by the spread of all centred rewards of the iteration,
  not of their group. Most games are won whatever the router does: in such a
  group only the cost differs, and dividing by its own tiny spread would make a
  step saved there worth as much as a game lost elsewhere, whatever lambda says
  (`normalise_by="group"` is the textbook's).
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

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_router.engine.tier import KvMode
from train.objective import clipped
from train.router import front
from train.router.charges import by_seconds, by_share
from train.router.checkpoint import GrpoState, restore, save
from train.router.forest import Expand, Forest, Ints, Walks, walk
from train.router.front import Point
from train.router.network import NetPolicy, NetworkShape, RouterNet
from train.router.objective import (
    Doubles,
    advantages,
    entropy,
    kl_divergence,
    lambda_at,
    log_probability,
    masked_mean,
)
from train.router.options import GrpoConfig
from train.router.policies import FixedPolicy
from train.router.run import Run, load_network, name_of, save_network

OnIteration = Callable[[GrpoState, int], None]
# (forest, what it returned when the forest was smaller) -> (rows, tiers)
StepCosts = Callable[[Forest, Doubles | None], Doubles]


def improve(run: Run) -> None:
    """Improve every supervised network; leaves `grpo-*.pt` and `grpo.json`."""
    started, games, select = time.monotonic(), run.training_games(), run.select_games()
    found = []
    for shape in run.shapes:
        name = name_of(shape)
        trainer = GrpoTrainer(
            run.rollouts.forest,
            games,
            select,
            load_network(run.folder / f"sft-{name}.pt"),
            run.options.grpo,
            run.rollouts.expand,
            _cost_of_steps(run, shape),
        )
        state = trainer.run(run.folder / f"grpo-{name}.checkpoint", _show_iterations(run, name))
        save_network(state.net.eval(), run.folder / f"grpo-{name}.pt")
        found.append({"what": name, "score": state.best_score, "log": state.log})
        run.say(f"{name}: best score {state.best_score:.4f}")
    run.keep_note("grpo", {"networks": found, "config": asdict(run.options.grpo)}, started)


def _cost_of_steps(run: Run, shape: NetworkShape) -> StepCosts:
    """By the tier's weight, or in seconds where the options name a profile."""
    profile = run.options.profile
    if profile is None:
        return by_share
    return partial(
        by_seconds,
        profile=profile,
        names=run.setting.names,
        decide_at=shape.decide_at,
        kv=KvMode.parse(run.setting.kv),
    )


def _show_iterations(run: Run, name: str) -> OnIteration:
    advance: Callable[[], None] | None = None

    def show(state: GrpoState, total: int) -> None:
        nonlocal advance
        if advance is None:
            advance = run.progress(f"grpo {name}", total, state.iteration - 1)
        advance()

    return show


# -- one network --------------------------------------------------------------------------


@dataclass
class GrpoTrainer:
    """GRPO from a supervised network; `judged` are games that the best network is chosen on."""

    forest: Forest
    games: Ints
    judged: Ints
    supervised: RouterNet
    config: GrpoConfig
    expand: Expand | None = None
    step_costs: StepCosts = by_share
    _is_contested: NDArray[np.bool_] | None = None
    _unit: float | None = None
    _costs: Doubles | None = None

    def run(
        self, checkpoint: Path | None = None, on_iteration: OnIteration | None = None
    ) -> GrpoState:
        """Train to the end, from `checkpoint` where there is one; the best network is in `net`."""
        state = self._start(checkpoint)
        while state.iteration < self.config.iterations:
            if state.iteration % self.config.every == 0:
                self._judge(state)
                self._grow(state)
            self._iterate(state)
            state.iteration += 1
            if on_iteration is not None:
                on_iteration(state, self.config.iterations)
            if checkpoint is not None and state.iteration % self.config.every == 0:
                save(state, checkpoint)
        self._judge(state)
        if checkpoint is not None:
            save(state, checkpoint)
        state.net.load_state_dict(state.best)
        return state

    def _start(self, checkpoint: Path | None) -> GrpoState:
        net = deepcopy(self.supervised).train()
        optimiser = torch.optim.Adam(net.parameters(), lr=self.config.learning_rate)
        state = GrpoState(net, optimiser, entropy_weight=self.config.entropy_coefficient)
        if checkpoint is not None and checkpoint.is_file():
            restore(state, checkpoint)
            self._is_contested = np.array(state.contested)
        else:
            state.contested = [bool(c) for c in self._contested()]
            if checkpoint is not None:
                save(state, checkpoint)
        return state

    # -- playing ------------------------------------------------------------------------

    def _grow(self, state: GrpoState) -> None:
        """Make known what the network's own draws lead to, in some games that depend on it."""
        contested = self.games[self._contested()]
        if self.expand is None or not len(contested):
            return
        rng = np.random.default_rng([self.config.seed, state.iteration, 1])
        games = np.repeat(
            rng.choice(contested, min(self.config.grown_games, len(contested)), replace=False),
            self.config.grown_episodes,
        )
        policy = NetPolicy(state.net, generator=rng)
        dials = rng.random(len(games), np.float32)
        walk(self.forest, games, policy, dials=dials, expand=self.expand)

    def _iterate(self, state: GrpoState) -> None:
        """One iteration: play, reward, learn, log. E below is groups * group_size episodes."""
        config, i = self.config, state.iteration
        # A generator for each iteration: a run that goes on draws what an unbroken one would.
        rng = np.random.default_rng([config.seed, i])

        # Play. A group is one game under one dial, group_size times; within it only the
        # network's own draws differ, so they alone explain who did better.
        games, importance = self._draw_games(rng)  # (groups,) each
        dials = rng.random(len(games), np.float32)  # (groups,)
        policy = NetPolicy(state.net, generator=rng)
        walks = walk(
            self.forest,
            np.repeat(games, config.group_size),
            policy,
            dials=np.repeat(dials, config.group_size),
            stop_where_unknown=True,
        )

        # Reward, (E,): a win less what it cost at this dial's lambda.
        cost = self._cost(walks)
        weight_of_cost = lambda_at(np.repeat(dials, config.group_size), config)
        rewards = (walks.won - weight_of_cost * cost) / (1.0 + weight_of_cost)

        # Advantage, (E,): against the rest of the group. Episodes that left the known tree have
        # no outcome and take no part; games drawn more often than they occur count for less.
        valid = walks.whole.reshape(-1, config.group_size)
        grouped = advantages(rewards.reshape(-1, config.group_size), config.normalise_by, valid)
        advantage = (grouped * importance[:, None]).ravel()

        losses = self._learn(state, walks, advantage)
        state.log.append(self._entry(i, walks, rewards, importance) | losses)

    def _entry(
        self, iteration: int, walks: Walks, rewards: Doubles, importance: Doubles
    ) -> dict[str, float]:
        """A line of the log; importance (groups,) weights games back to how often they occur."""
        weight = np.repeat(importance, self.config.group_size) * walks.whole
        escalated = (walks.tiers > 0) & walks.taken
        return {
            "iteration": iteration,
            "reward": float(np.average(rewards, weights=weight)),
            "success": float(np.average(walks.won, weights=weight)),
            "share": float(escalated.sum() / walks.taken.sum()),
            "known": float(walks.whole.mean()),
        }

    def _draw_games(self, rng: np.random.Generator) -> tuple[Ints, Doubles]:
        """Games of an iteration and the weight that makes up for how often they are drawn.

        Both (groups,). A game that is won or lost whatever the router does teaches only to save;
        those that it decides are a few in a hundred, and are drawn for half of the groups.
        """
        contested, groups = self._contested(), self.config.groups
        occur = contested.mean()
        if not 0 < occur < 1:
            return rng.choice(self.games, groups), np.ones(groups)
        first = round(groups * self.config.contested)
        rest = groups - first
        drawn = [
            rng.choice(self.games[contested], first),
            rng.choice(self.games[~contested], rest),
        ]
        weights = [
            np.full(first, occur * groups / max(1, first)),
            np.full(rest, (1 - occur) * groups / max(1, rest)),
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
        """(episodes,) costs; 1 is what an episode on the high tier costs on average."""
        if self._unit is None:
            high = FixedPolicy(self.forest.tiers - 1)
            alone = walk(self.forest, self.games, high, expand=self.expand)
            self._unit = float(alone.cost(self._costs_of_rows()).mean())
        return walks.cost(self._costs_of_rows()) / self._unit

    def _costs_of_rows(self) -> Doubles:
        """(rows, tiers), computed for the rows by which the tree has grown since the last call."""
        if self._costs is None or len(self._costs) != self.forest.size:
            self._costs = self.step_costs(self.forest, self._costs)
        return self._costs

    # -- learning -----------------------------------------------------------------------

    def _learn(self, state: GrpoState, walks: Walks, advantage: Doubles) -> dict[str, float]:
        """Improve the network on the walks for a few epochs; advantage (episodes,).

        Everything below is (steps, episodes); `mask` leaves out what lies after an episode's
        end and whole episodes that left the known tree.
        """
        features = torch.from_numpy(walks.features)  # (steps, episodes, width)
        mask = torch.from_numpy(walks.taken & walks.whole)
        tiers = torch.from_numpy(walks.tiers)
        gain = torch.from_numpy(advantage).float().expand(walks.rows.shape)  # the same each step
        # What the draws were made with, before the network changes: the ratio's denominator.
        with torch.no_grad():
            reference = self.supervised.sequence(features)
            before = log_probability(state.net.sequence(features), tiers)
        last: dict[str, float] = {}
        for _ in range(self.config.epochs):
            logits = state.net.sequence(features)
            ratio = (log_probability(logits, tiers) - before).exp()
            kl = masked_mean(kl_divergence(logits, reference), mask)
            spread = masked_mean(entropy(logits), mask)
            objective = masked_mean(clipped(ratio, gain, self.config.clip_range), mask)
            loss = self.config.kl_coefficient * kl - objective - state.entropy_weight * spread
            state.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(state.net.parameters(), 1.0)
            state.optimiser.step()
            last = {"kl": float(kl.detach()), "entropy": float(spread.detach())}
        return last

    # -- judging ------------------------------------------------------------------------

    def _judge(self, state: GrpoState) -> None:
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
