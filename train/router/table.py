"""The comparison that a router is judged by: every policy on the same games, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.tier import KvMode
from edge_router.ladders.costs import CostProfile, StepTokens
from edge_router.results.statistics import mcnemar_exact, wilson
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from train.router.forest import Forest, Ints, Walks, walk
from train.router.games import Game
from train.router.oracle import search, tier_weights
from train.router.policies import RouterPolicy
from train.router.rollouts import Rollouts


@dataclass(frozen=True)
class PolicySpec:
    """A row to be: its name, the router, the dial."""

    name: str
    spec: RouterSpec
    dial: float = 0.5


@dataclass
class PolicyResult:
    """One policy on the games; lists follow the games."""

    name: str
    spec: str
    dial: float | None
    won: list[bool]
    steps: list[int]
    escalated: list[int]  # steps that the low tier did not write
    cost: list[float]  # the same, each step weighed by its tier
    tokens: int = 0  # decoded, rejected drafts included
    rejected: int = 0  # tokens of drafts that were not kept
    seconds: dict[str, float] = field(default_factory=dict)  # a game, by cost profile
    episodes: list[tuple[str, ...]] = field(default_factory=list, repr=False)  # actions
    plans: list[tuple[int, ...]] = field(default_factory=list, repr=False)  # the oracle's tiers

    @property
    def success(self) -> float:
        return sum(self.won) / max(1, len(self.won))

    @property
    def share(self) -> float:
        return sum(self.escalated) / max(1, sum(self.steps))

    def against(self, other: PolicyResult) -> tuple[int, int, float]:
        """Games only this one won, only the other, and McNemar's exact p."""
        pairs = list(zip(self.won, other.won, strict=True))
        mine, theirs = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
        return mine, theirs, mcnemar_exact(mine, theirs)

    def plain(self) -> dict[str, Any]:
        low, high = wilson(sum(self.won), len(self.won))
        return {
            "name": self.name,
            "router": self.spec,
            "dial": self.dial,
            "won": sum(self.won),
            "games": len(self.won),
            "success": self.success,
            "success_low": low,
            "success_high": high,
            "escalation_rate": self.share,
            "steps": sum(self.steps) / max(1, len(self.steps)),
            "tokens": self.tokens / max(1, len(self.won)),
            "rejected_tokens": self.rejected / max(1, len(self.won)),
            "seconds": self.seconds,
            "each": [int(w) for w in self.won],
        }


def compare(
    rollouts: Rollouts,
    games: Sequence[Game],
    asked: Sequence[PolicySpec],
    profiles: dict[str, CostProfile],
    *,
    oracle: bool = True,
) -> list[PolicyResult]:
    """A row for each policy that is asked for, and the oracle's at the end."""
    indices = rollouts.take(games)
    rollouts.play(games, [(a.spec, a.dial) for a in asked], f"{len(asked)} policies")
    rows = [_row(rollouts, indices, a, profiles) for a in asked]
    if oracle:
        rows.append(_oracle_row(rollouts.forest, indices))
    return rows


def _row(
    rollouts: Rollouts, games: Ints, asked: PolicySpec, profiles: dict[str, CostProfile]
) -> PolicyResult:
    forest, setting = rollouts.forest, rollouts.setting
    policy = RouterPolicy(partial(make_router, asked.spec), setting.names, forest)
    walks = walk(forest, games, policy, dials=asked.dial, expand=rollouts.expand)
    drafts = make_router(asked.spec).decide_at == "draft"
    escalated = (walks.tiers > 0) & walks.taken
    decoded = forest.decoded[np.maximum(walks.rows, 0)]
    kept = (np.take_along_axis(decoded, walks.tiers[..., None], 2)[..., 0] * walks.taken).sum()
    rejected = int((decoded[..., 0] * escalated).sum()) if drafts else 0
    return PolicyResult(
        name=asked.name,
        spec=str(asked.spec),
        dial=asked.dial if asked.spec.file else None,
        won=[bool(w) for w in walks.won],
        steps=[int(n) for n in walks.steps],
        escalated=[int(n) for n in escalated.sum(0)],
        cost=[float(c) for c in _costs(forest, walks)],
        tokens=int(kept) + rejected,
        rejected=rejected,
        seconds={
            name: seconds(forest, walks, KvMode.parse(setting.kv), setting.names, drafts, profile)
            / max(1, len(games))
            for name, profile in profiles.items()
        },
        episodes=[_actions(forest, walks, e) for e in range(len(games))],
    )


def _costs(forest: Forest, walks: Walks) -> NDArray[np.float64]:
    weights = np.array(tier_weights(forest.tiers))
    return np.asarray((weights[walks.tiers] * walks.taken).sum(0))


def _actions(forest: Forest, walks: Walks, episode: int) -> tuple[str, ...]:
    rows, tiers = walks.rows[:, episode], walks.tiers[:, episode]
    steps = range(int(walks.steps[episode]))
    return tuple(forest.nodes[rows[s]].writings[tiers[s]].action for s in steps)


def seconds(
    forest: Forest,
    walks: Walks,
    kv: KvMode,
    names: Sequence[str],
    drafts: bool,
    profile: CostProfile,
) -> float:
    """Seconds of all episodes by a cost profile, whose tiers are named as the ladder's.

    An escalated step is handed what its tier lacks since it last wrote; a rejected draft costs its
    own decoding on top.
    """
    total = 0.0
    for episode in range(walks.rows.shape[1]):
        held = [0] * len(names)  # prompt tokens that each tier's cache holds
        before = 0
        for step in range(int(walks.steps[episode])):
            row, tier = int(walks.rows[step, episode]), int(walks.tiers[step, episode])
            prompt = forest.nodes[row].prompt_tokens
            own = 0 if tier == 0 else _own(kv, prompt, held[tier])
            tokens = StepTokens(
                prefill=max(1, prompt - before),
                handoff=0 if tier == 0 or kv.exact else max(0, prompt - own - held[tier]),
                catchup=own,
                decode=int(forest.decoded[row, tier]),
                prompt_tokens=prompt,
            )
            total += profile.step_seconds(names[tier], tokens, reader=names[0])
            if drafts and tier > 0:
                total += profile.tier(names[0]).decode(int(forest.decoded[row, 0]), prompt)
            held[tier] = prompt if kv.exact else prompt - own
            before = prompt
    return total


def _own(kv: KvMode, prompt: int, held: int) -> int:
    """Prompt tokens that a higher tier reads itself."""
    return prompt - held if kv.exact else min(prompt, kv.own)


def _oracle_row(forest: Forest, games: Ints) -> PolicyResult:
    """The least-cost win known of each game; what no policy here can beat."""
    weights = tier_weights(forest.tiers)
    row = PolicyResult("oracle", "", None, [], [], [], [])
    sure = 0
    for game in games:
        tree = forest.trees[game]
        root = tree.root
        assert root is not None
        found = search(root, tree.known_child, weights)
        won = math.isfinite(found.best)
        sure += found.exact or (not won and math.isinf(found.at_least))
        row.won.append(won)
        row.steps.append(len(found.path))
        row.escalated.append(sum(tier > 0 for _, tier in found.path))
        row.cost.append(found.best if won else 0.0)
        row.plans.append(tuple(tier for _, tier in found.path))
        nodes = [(tree.nodes[key], tier) for key, tier in found.path]
        row.tokens += sum(node.writings[tier].decoded for node, tier in nodes)
        row.episodes.append(tuple(node.writings[tier].action for node, tier in nodes))
    row.name = f"oracle (exact in {sure}/{len(games)})"
    return row


def oracle_is_beaten(rows: Sequence[PolicyResult], forest: Forest, games: Ints) -> list[str]:
    """Policies that won a game the oracle does not, or at a smaller cost: always empty."""
    oracle = rows[-1]
    return [
        f"{row.name} on {forest.trees[games[i]].game.key}"
        for row in rows[:-1]
        for i in range(len(games))
        if row.won[i] and (not oracle.won[i] or row.cost[i] < oracle.cost[i] - 1e-9)
    ]
