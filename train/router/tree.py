"""The rollout tree of a game: every history seen, and new ones as they are asked for.

    tree.child(tree.root, tier)     the history after `tier` has written the next step

Where tiers write the same tokens their branches are one. Known histories cost a
look-up, new ones decoding; what an `Explorer` has added since it was last asked
is `taken`, to be kept in a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from edge_router.agent.history import History, Past
from edge_router.router.feature_table import ALL_NAMES, column
from edge_router.tasks.protocol import Game, Opening, Reply
from edge_router.tasks.registry import find_task
from train.router.decoder import Decoder, Turn
from train.router.games import KeyedGame
from train.router.node import Node, Writing, child_key, root_key

ENTROPY = column("entropy")


class UnexploredError(LookupError):
    """A history is not in the tree, and nothing is there to decode it."""


@dataclass
class GameTree:
    """The known histories of one game."""

    game: KeyedGame
    nodes: dict[bytes, Node] = field(default_factory=dict)

    @property
    def root(self) -> Node | None:
        return self.nodes.get(root_key(self.game.key))

    def known_child(self, node: Node, tier: int) -> Node | None:
        return self.nodes.get(node.child_key(tier))

    def add(self, nodes: Iterable[Node]) -> None:
        self.nodes.update((node.key, node) for node in nodes)

    def path(self, node: Node) -> list[Node]:
        """From the root to `node`, both included."""
        path = [node]
        while path[-1].parent is not None:
            path.append(self.nodes[path[-1].parent])
        return path[::-1]


class Explorer:
    """Adds histories to the tree of one game with the help of a decoder."""

    def __init__(self, tree: GameTree, decoder: Decoder, max_steps: int) -> None:
        self.tree = tree
        self._decoder = decoder
        self._max_steps = max_steps
        self._replies: Replies | None = None
        self._new: list[Node] = []

    @property
    def root(self) -> Node:
        node = self.tree.root
        return node if node is not None else self._add(self._read([], None))

    def child(self, node: Node, tier: int) -> Node:
        """The history after `tier` has gone on from `node`, which must not be over."""
        known = self.tree.known_child(node, tier)
        return known if known is not None else self._add(self._follow(node, tier))

    def taken(self) -> list[Node]:
        """What was added since the last call."""
        new, self._new = self._new, []
        return new

    def close(self) -> None:
        if self._replies is not None:
            self._replies.close()

    # -- new histories ---------------------------------------------------------------

    @property
    def _game(self) -> Replies:
        if self._replies is None:
            self._replies = Replies(self.tree.game.open())
        return self._replies

    def _refused(self, reply: str) -> bool:
        return find_task(self.tree.game.task).refused(reply)

    def _add(self, node: Node) -> Node:
        self.tree.nodes[node.key] = node
        self._new.append(node)
        return node

    def _follow(self, node: Node, tier: int) -> Node:
        tokens = node.writings[tier].tokens
        writer = next(i for i, w in enumerate(node.writings) if w.tokens == tokens)
        return self._read(self.tree.path(node), writer)

    def _read(self, path: list[Node], writer: int | None) -> Node:
        """The node after `path`, whose last step is written by `writer`; the root without."""
        wrote = list(_writers(path, writer))
        written = [node.writings[tier] for node, tier in zip(path, wrote, strict=True)]
        opening = self._game.opening
        reply, done, won = opening.goal, False, False
        if written:
            answer = self._game.after(tuple(w.action for w in written))
            reply, won = answer.observation, answer.won
            done = answer.done or len(written) == self._max_steps
        replies = [node.reply for node in path[1:]] + [reply] * bool(path)
        history = History(self._max_steps)
        history.begin(opening.goal)
        for node, w, said in zip(path, written, replies, strict=True):
            history.add(
                Past(
                    text=w.text,
                    action=w.action,
                    reply=said,
                    refused=self._refused(said),
                    tier=0,
                    prompt_tokens=node.prompt_tokens,
                    entropy=float(node.features[ENTROPY]),
                    min_p=1.0,
                    nll=0.0,
                )
            )
        turns = [Turn(w.tokens, w.text, said) for w, said in zip(written, replies, strict=True)]
        reading = None if done else self._decoder.read(opening, turns, history)
        return Node(
            key=self._key(path, written),
            parent=path[-1].key if path else None,
            tier=writer or 0,
            step=len(path),
            reply=reply,
            refused=bool(path) and self._refused(reply),
            done=done,
            won=won,
            prompt_tokens=reading.prompt_tokens if reading else 0,
            features=reading.features if reading else np.zeros(len(ALL_NAMES), np.float32),
            writings=reading.writings if reading else (),
        )

    def _key(self, path: list[Node], written: list[Writing]) -> bytes:
        if not path:
            return root_key(self.tree.game.key)
        return child_key(path[-1].key, written[-1].tokens)


def _writers(path: list[Node], last: int | None) -> Iterator[int]:
    """Who wrote the step after each node of the path."""
    yield from (node.tier for node in path[1:])
    if last is not None:
        yield last


# -- a game as a function of the actions so far --------------------------------------------------


class Replies:
    """Answers for one game. Going on where the last question ended costs one step of the game,
    anything else a reset and all steps up to there; answers are remembered."""

    def __init__(self, game: Game) -> None:
        self._game = game
        self.opening: Opening = game.reset()
        self._played: tuple[str, ...] = ()
        self._known: dict[tuple[str, ...], Reply] = {}

    def after(self, actions: tuple[str, ...]) -> Reply:
        """The reply to the last of `actions`; all before it have been played first."""
        known = self._known.get(actions)
        if known is not None:
            return known
        if actions[: len(self._played)] != self._played or len(actions) == len(self._played):
            self._game.reset()
            self._played = ()
        while len(self._played) < len(actions):
            reply = self._game.step(actions[len(self._played)])
            self._played = actions[: len(self._played) + 1]
            self._known[self._played] = reply
        return self._known[actions]

    def close(self) -> None:
        self._game.close()
