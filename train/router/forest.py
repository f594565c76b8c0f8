"""Many games' trees as arrays, so that thousands of episodes walk through them at once.

Rows are histories. `child[row, tier]` is the row that follows, UNKNOWN where
nobody has been. A `Policy` sees the features of all running episodes as one
matrix; whoever needs unknown histories passes `expand`, which has them decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.tier import common_prefix
from edge_router.router.feature_table import ALL_NAMES, FEATURES
from edge_router.router.features import Encoder
from train.router.node import ANY, Node
from train.router.tree import GameTree, UnexploredError

UNKNOWN = -1
_OF_ROUTE = Encoder([feature for feature in FEATURES if feature.of_route])

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Policy(Protocol):
    """Chooses a tier for every running episode."""

    def reset(self, games: Ints) -> None:
        """Episodes begin; `games` (episodes,) are indices into the forest's games."""
        ...

    def choose(self, features: Floats, episodes: Ints, rows: Ints) -> Ints:
        """Tiers (n,) for episodes numbered `episodes` (n,), features (n, len(ALL_NAMES))."""
        ...


class Forest:
    """Grows with every tree and node added. A row is a history of one game.

    Of every array the first `size` rows are in use; what lies behind is room to grow into.
    """

    def __init__(self, tiers: int) -> None:
        self.tiers = tiers
        self.size = 0
        self.trees: list[GameTree] = []
        self.nodes: list[Node] = []
        self._row: dict[tuple[int, bytes], int] = {}
        self._make(1024)

    def _make(self, room: int) -> None:
        n = self.tiers
        # (rows,): the history itself
        self.game = np.zeros(room, np.int64)  # its index in `trees`
        self.step = np.zeros(room, np.int64)
        self.done = np.zeros(room, bool)
        self.won = np.zeros(room, bool)
        self.refused = np.zeros(room, bool)
        self.features = np.zeros((room, len(ALL_NAMES)), np.float32)
        # (rows, tiers): what each tier writes after it, and the row to which that leads
        self.child = np.full((room, n), UNKNOWN, np.int64)
        self.min_p = np.ones((room, n), np.float32)
        self.nll = np.zeros((room, n), np.float32)
        self.decoded = np.zeros((room, n), np.int64)
        self.accepted = np.zeros((room, n), np.int64)  # tokens that it has in common with the draft
        self.text = np.zeros((room, n), np.int64)  # the lowest tier of the same text
        self.action = np.zeros((room, n), np.int64)  # the lowest tier of the same action
        self.kl = np.zeros((room, n, 3), np.float32)  # sum, mean, max

    def _grow(self) -> None:
        old = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        self._make(2 * len(self.game))
        for name, value in old.items():
            getattr(self, name)[: len(value)] = value

    def add_tree(self, tree: GameTree) -> int:
        """Take in a game whose root is known; returns its index."""
        self.trees.append(tree)
        index = len(self.trees) - 1
        self.add(index, tree.nodes.values())
        return index

    def add(self, game: int, nodes: Iterable[Node]) -> None:
        """Take in histories of a game; each one's parent has to be known or among them."""
        for node in sorted(nodes, key=lambda n: n.step):
            self._add(game, node)

    def _add(self, game: int, node: Node) -> None:
        if (game, node.key) in self._row:
            return
        if self.size == len(self.game):
            self._grow()
        row, self.size = self.size, self.size + 1
        self._row[game, node.key] = row
        self.nodes.append(node)
        self.game[row], self.step[row] = game, node.step
        self.done[row], self.won[row], self.refused[row] = node.done, node.won, node.refused
        self.features[row] = node.features
        # Tiers that write the same text share a branch: each is marked with the lowest of them.
        texts = [w.tokens for w in node.writings]
        actions = [w.action for w in node.writings]
        for tier, w in enumerate(node.writings):
            self.min_p[row, tier], self.nll[row, tier] = w.min_p, w.nll
            self.decoded[row, tier] = w.decoded
            self.accepted[row, tier] = common_prefix(w.tokens, texts[0])
            self.kl[row, tier] = w.kl_sum, w.kl_mean, w.kl_max
            self.text[row, tier] = texts.index(w.tokens)
            self.action[row, tier] = actions.index(w.action)
        # For the same reason the parent leads here by every tier that writes this text.
        if node.parent is not None:
            parent = self._row[game, node.parent]
            same = self.text[parent] == self.text[parent, node.tier]
            self.child[parent, same | (node.tier == ANY)] = row

    def roots(self, games: Ints) -> Ints:
        """(episodes,) rows of the games' beginnings, for indices `games` (episodes,)."""
        keys = [self.trees[game].root for game in games]
        return np.array([self._row[g, r.key] for g, r in zip(games, keys, strict=True) if r])

    def row(self, game: int, key: bytes) -> int:
        return self._row[game, key]


@dataclass(frozen=True)
class Walks:
    """Episodes side by side: arrays of shape (steps, episodes), UNKNOWN rows after an end."""

    games: Ints  # (episodes,)
    rows: Ints  # (steps, episodes) the history at each step
    tiers: Ints  # (steps, episodes) who wrote it; 0 after an end
    features: Floats  # (steps, episodes, len(ALL_NAMES)), as the policy saw them
    ends: Ints  # (episodes,) the row where the episode ended, or where the tree did
    won: NDArray[np.bool_]  # (episodes,)
    whole: NDArray[np.bool_]  # (episodes,) False where the tree ended before the episode

    @property
    def taken(self) -> NDArray[np.bool_]:
        """(steps, episodes): where a decision was made."""
        return np.asarray(self.rows != UNKNOWN)

    @property
    def steps(self) -> Ints:
        """(episodes,): how many decisions each took."""
        return np.asarray(self.taken.sum(0))

    def cost(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(episodes,): the sum of weights[row, tier] over an episode's steps.

        `weights` is (rows, tiers). After an end the row is UNKNOWN, -1: row 0 stands in for it,
        and the mask takes its weight out again.
        """
        each = weights[np.maximum(self.rows, 0), self.tiers]
        return np.asarray((each * self.taken).sum(0))


Expand = Callable[[Sequence[tuple[int, int]]], None]


def walk(
    forest: Forest,
    games: Ints,
    policy: Policy,
    *,
    dials: Floats | float = 0.5,
    expand: Expand | None = None,
    stop_where_unknown: bool = False,
) -> Walks:
    """Let `policy` play the games, one episode for each entry of `games`.

    `games` is (episodes,), `dials` a number or one for each episode. Unknown histories are passed
    to `expand` as (row, tier) pairs, which has to make them known. Without it they end an episode
    (`stop_where_unknown`) or raise UnexploredError.
    """
    n = len(games)
    at = forest.roots(games)  # (episodes,) where each episode stands
    dials = np.broadcast_to(np.asarray(dials, np.float32), n)
    route = _Route(n)
    policy.reset(games)
    whole = np.ones(n, bool)  # False once an episode has left the known tree
    rows, tiers, seen = list[Ints](), list[Ints](), list[Floats]()
    while True:
        running = np.flatnonzero(~forest.done[at] & whole)
        if not len(running):
            break
        # Decide: one matrix for all running episodes, because a call of the network for each
        # would take longer than everything else here.
        features = route.features(forest, at, running, dials)
        chosen = policy.choose(features, running, at[running])
        # Have the next histories decoded, or mark the episodes that cannot go on.
        whole[running[_follow(forest, at[running], chosen, expand, stop_where_unknown)]] = False
        # Record the decision, of episodes that cannot go on too: the policy did make it.
        rows.append(_spread(n, running, at[running], UNKNOWN))
        tiers.append(_spread(n, running, chosen, 0))
        seen.append(_spread(n, running, features, 0.0))
        # Move on. `child` is read again, because `expand` may have grown the arrays.
        route.took(forest, at, running, chosen)
        going = running[whole[running]]
        at[going] = forest.child[at[going], tiers[-1][going]]
    return Walks(
        games=games,
        rows=np.stack(rows),
        tiers=np.stack(tiers),
        features=np.stack(seen),
        ends=at,
        won=forest.won[at] & whole,
        whole=whole,
    )


def _follow(
    forest: Forest, at: Ints, tiers: Ints, expand: Expand | None, stop: bool
) -> NDArray[np.bool_]:
    """Make the histories after (at, tiers), both (n,), known; (n,) True where they stay unknown."""
    missing = forest.child[at, tiers] == UNKNOWN
    if not missing.any() or (expand is None and stop):
        return np.asarray(missing)
    if expand is None:
        raise UnexploredError("a policy left the known tree, and nothing is there to decode")
    # Episodes of one game often want the same history: it is asked for once, by the lowest tier
    # that writes it. Sorted, so that what is kept does not depend on the order of a set.
    pairs = {
        (int(r), int(forest.text[r, t])) for r, t in zip(at[missing], tiers[missing], strict=True)
    }
    expand(sorted(pairs, key=lambda p: (forest.game[p[0]], forest.nodes[p[0]].key, p[1])))
    return np.zeros(len(at), bool)


Array = TypeVar("Array", bound=NDArray[Any])


def _spread(n: int, where: Ints, values: Array, empty: float) -> Array:
    """`values` at the places `where` of an array of length n, `empty` at the others."""
    out = np.full((n, *values.shape[1:]), empty, values.dtype)
    out[where] = values
    return cast(Array, out)


class _Route:
    """What depends on who wrote the earlier steps: the features with `of_route`."""

    def __init__(self, episodes: int) -> None:
        self.last_tier = np.full(episodes, -1)
        self.escalated = np.zeros(episodes)
        self.steps = np.zeros(episodes)
        self.min_p = np.ones(episodes, np.float32)
        self.nll = np.zeros(episodes, np.float32)

    def features(self, forest: Forest, at: Ints, running: Ints, dials: Floats) -> Floats:
        """(len(running), len(ALL_NAMES)): the tree's features with this route's put in.

        The tree keeps them as the low tier alone would see them, because a history is shared by
        all routes that lead to the same text. `at` and `dials` are (episodes,).
        """
        values = {
            "last_tier": self.last_tier,
            "escalated_share": self.escalated / np.maximum(1, self.steps),
            "escalated_steps": self.escalated,
            "last_min_p": self.min_p,
            "last_nll": self.nll,
            "dial": dials,
        }
        route = np.stack([values[name][running] for name in _OF_ROUTE.names], -1)
        out = forest.features[at[running]].copy()
        out[:, _OF_ROUTE.columns] = _OF_ROUTE.rows(route)
        return out

    def took(self, forest: Forest, at: Ints, running: Ints, tiers: Ints) -> None:
        self.last_tier[running] = tiers
        self.escalated[running] += tiers > 0
        self.steps[running] += 1
        self.min_p[running] = forest.min_p[at[running], tiers]
        self.nll[running] = forest.nll[at[running], tiers]
