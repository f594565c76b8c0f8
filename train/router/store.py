"""Where rollout trees are kept: one SQLite file, whole at any moment.

What one exploration of a game found is written in one transaction (WAL, so a
reader is never in the way), together with the note that it is finished. A
process that is killed leaves every finished exploration and nothing of an
unfinished one. Trees of different ladders, KV modes or feature schemas share a
file without meeting: each has its `identity`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from edge_router.errors import UserError
from edge_router.router.feature_table import ALL_NAMES
from edge_router.work.store import connect, database_errors
from train.router.games import KeyedGame
from train.router.node import ANY, Node, Writing
from train.router.tree import GameTree

FORMAT = "edge-router/rollouts/1"
_Row = Sequence[Any]
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS rollouts (id INTEGER PRIMARY KEY, identity TEXT UNIQUE, told TEXT);
CREATE TABLE IF NOT EXISTS node (
    rollouts INTEGER NOT NULL REFERENCES rollouts, game TEXT NOT NULL, key BLOB NOT NULL,
    parent BLOB, tier INTEGER, step INTEGER, reply TEXT, refused INTEGER, done INTEGER,
    won INTEGER, prompt_tokens INTEGER, features BLOB,
    PRIMARY KEY (rollouts, game, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS writing (
    rollouts INTEGER NOT NULL, game TEXT NOT NULL, key BLOB NOT NULL, tier INTEGER NOT NULL,
    text TEXT, tokens BLOB, action TEXT, min_p REAL, nll REAL, decoded INTEGER,
    kl_sum REAL, kl_mean REAL, kl_max REAL,
    PRIMARY KEY (rollouts, game, key, tier)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS finished (
    rollouts INTEGER NOT NULL, game TEXT NOT NULL, what TEXT NOT NULL,
    PRIMARY KEY (rollouts, game, what)) WITHOUT ROWID;
"""


class RolloutStore:
    """The trees of one identity (a ladder under one KV mode) in the file at `path`.

    Raises UserError when the file is no store of this version or cannot be written.
    """

    def __init__(self, path: Path, identity: str, about: str = "") -> None:
        self.path = path
        with self._guarded():
            self._db = connect(path, "the store of rollouts")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            with self._db as db:
                db.execute("INSERT OR IGNORE INTO about VALUES ('format', ?)", (FORMAT,))
                db.execute(
                    "INSERT OR IGNORE INTO rollouts (identity, told) VALUES (?, ?)",
                    (identity, about),
                )
            found = self._value("SELECT value FROM about WHERE key = 'format'")
        if found != FORMAT:
            raise UserError(f"{path} holds rollouts of the format {found}, not {FORMAT}")
        self._id = int(str(self._value("SELECT id FROM rollouts WHERE identity = ?", identity)))

    def _value(self, query: str, *values: object) -> object:
        row = self._db.execute(query, values).fetchone()
        return None if row is None else row[0]

    def finished(self, what: str) -> set[str]:
        """Keys of the games whose exploration `what` is complete."""
        with self._guarded():
            rows = self._db.execute(
                "SELECT game FROM finished WHERE rollouts = ? AND what = ?", (self._id, what)
            )
            return {row[0] for row in rows}

    def add(self, game: str, nodes: Iterable[Node], what: str | None = None) -> None:
        """Keep nodes of a game, and that the exploration `what` of it is complete, at once."""
        with self._guarded(), self._db as db:
            for node in nodes:
                db.execute(
                    "INSERT OR IGNORE INTO node VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                    (self._id, game, *_row(node)),
                )
                db.executemany(
                    "INSERT OR IGNORE INTO writing VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                    [
                        (self._id, game, node.key, tier, *_writing_row(writing))
                        for tier, writing in enumerate(node.writings)
                    ],
                )
            if what is not None:
                db.execute("INSERT OR IGNORE INTO finished VALUES (?,?,?)", (self._id, game, what))

    def load(self, game: KeyedGame) -> GameTree:
        """All that is known of a game. Raises UserError when what is kept is damaged."""
        with self._guarded():
            writings = self._db.execute(
                "SELECT key, text, tokens, action, min_p, nll, decoded, kl_sum, kl_mean, kl_max"
                " FROM writing WHERE rollouts = ? AND game = ? ORDER BY key, tier",
                (self._id, game.key),
            ).fetchall()
            nodes = self._db.execute(
                "SELECT key, parent, tier, step, reply, refused, done, won, prompt_tokens, features"
                " FROM node WHERE rollouts = ? AND game = ?",
                (self._id, game.key),
            ).fetchall()
        try:
            return _tree(game, nodes, writings)
        except (TypeError, ValueError, KeyError) as error:
            raise UserError(
                f"{self.path} holds a damaged history of the game {game.key}; delete the file, or"
                " name another folder with --run, to explore anew"
            ) from error

    def count(self) -> int:
        """How many histories are kept."""
        with self._guarded():
            found = self._value("SELECT count(*) FROM node WHERE rollouts = ?", self._id)
        return int(str(found))

    def close(self) -> None:
        self._db.close()

    def _guarded(self) -> AbstractContextManager[None]:
        return database_errors(f"{self.path} cannot be used as a store of rollouts")


def _row(node: Node) -> tuple[object, ...]:
    features = b"" if not node.writings else node.features.astype("<f4").tobytes()
    return (
        *(node.key, node.parent, node.tier, node.step, node.reply, int(node.refused)),
        *(int(node.done), int(node.won), node.prompt_tokens, features),
    )


def _writing_row(w: Writing) -> tuple[object, ...]:
    tokens = np.asarray(w.tokens, "<i4").tobytes()
    return (
        *(w.text, tokens, w.action, w.min_p, w.nll, w.decoded),
        *(w.kl_sum, w.kl_mean, w.kl_max),
    )


def _tree(game: KeyedGame, nodes: Iterable[_Row], writings: Iterable[_Row]) -> GameTree:
    """Rows of the file as a tree. Raises ValueError, TypeError, KeyError for damaged ones."""
    written: dict[bytes, list[Writing]] = {}
    for key, *row in writings:
        written.setdefault(key, []).append(_writing(row))
    tree = GameTree(game)
    tree.add(_node(row, written) for row in nodes)
    for node in tree.nodes.values():
        if node.parent is not None:
            _require_after(node, tree.nodes[node.parent])
        if not (node.done or node.writings):
            raise ValueError("a history after which nobody has written")
    return tree


def _require_after(node: Node, before: Node) -> None:
    if node.step != before.step + 1 or not ANY <= node.tier < len(before.writings):
        raise ValueError("a history that does not follow the one before it")


def _writing(row: Sequence[Any]) -> Writing:
    text, tokens, action, min_p, nll, decoded, *kl = row
    ids = tuple(np.frombuffer(tokens, "<i4").tolist())
    kl_sum, kl_mean, kl_max = map(float, kl)
    if not 0 <= int(decoded) < 1 << 31:
        raise ValueError("a number of tokens that nobody writes")
    return Writing(
        *(_text(text), ids, _text(action), float(min_p), float(nll), int(decoded)),
        *(kl_sum, kl_mean, kl_max),
    )


def _node(row: Sequence[Any], writings: dict[bytes, list[Writing]]) -> Node:
    key, parent, tier, step, reply, refused, done, won, prompt_tokens, features = row
    vector = np.zeros(len(ALL_NAMES), np.float32)  # where the episode is over there are none
    if features:
        vector[:] = np.frombuffer(features, "<f4")
    return Node(
        key=key,
        parent=parent,
        tier=int(tier),
        step=int(step),
        reply=_text(reply),
        refused=bool(refused),
        done=bool(done),
        won=bool(won),
        prompt_tokens=int(prompt_tokens),
        features=vector,
        writings=tuple(writings.get(key, ())),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
