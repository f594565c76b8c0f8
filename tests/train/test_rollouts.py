"""Rollout trees: what they hold is what play would give, in any order, killed or not."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edge_router.agent.episode import Options, play_episode
from edge_router.agent.events import Event, Routed, StepFinished
from edge_router.engine.ladder import TierSpec
from edge_router.engine.sampling import kl_divergence, log_softmax
from edge_router.errors import UserError
from edge_router.router.base import Decision, Features, Router
from edge_router.router.feature_table import ALL_NAMES, DecideAt
from edge_router.router.spec import RouterSpec
from edge_router.tasks.protocol import Game
from edge_router.work.pool import Backend
from edge_router.work.progress import Step
from tests.tiny_gguf import TINY_QWEN3, write_tiny_ladder
from tests.toy_forest import ToyGame, toy_forest, toy_tree
from train.router.decoder import Decoder
from train.router.explore import ExplorePlan, Wanted, Workers, WorkItem, run
from train.router.forest import Forest, walk
from train.router.games import DrawnGame, KeyedGame, drawn
from train.router.labels import by_action, by_kl, by_oracle, search, tier_weights, to_win
from train.router.node import Node
from train.router.policies import FixedPolicy, RouterPolicy
from train.router.rollouts import Rollouts
from train.router.setting import LadderSetting
from train.router.store import RolloutStore
from train.router.tree import Explorer, GameTree, UnexploredError

ROOT = Path(__file__).resolve().parents[2]
SHORT = replace(TINY_QWEN3, name="tiny-household", prompt_style="household")
NAMES = ("q3_k_m", "q8_0")
STEPS = 4
PATIENCE = 60  # seconds
GAME = DrawnGame("train", 3)


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> tuple[TierSpec, ...]:
    paths = write_tiny_ladder(tmp_path_factory.mktemp("household"), SHORT, NAMES)
    return tuple(TierSpec(name, paths[name]) for name in NAMES)


@pytest.fixture
def setting(specs: tuple[TierSpec, ...]) -> LadderSetting:
    return LadderSetting(specs, max_steps=STEPS)


def explorer(setting: LadderSetting, game: DrawnGame = GAME) -> Explorer:
    return Explorer(GameTree(game), Decoder(setting.load()), setting.max_steps)


class FixedTurns(Router):
    """A router that goes through a list of tiers, and keeps what it was shown."""

    def __init__(self, tiers: Sequence[int], at: DecideAt = "draft") -> None:
        self.spec, self.decide_at = RouterSpec("turns"), at
        self._tiers = tiers
        self.seen: list[Features] = []

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        self.seen = []

    def decide(self, features: Features) -> Decision:
        self.seen.append(features)
        return Decision(self._tiers[len(self.seen) - 1], "it is its turn")


@pytest.mark.parametrize("kv", ["handoff", pytest.param("handoff:8", marks=pytest.mark.slow)])
def test_a_walk_through_the_tree_is_a_played_episode(setting: LadderSetting, kv: str) -> None:
    """The same texts, the same replies, the same features to the last bit, drafts included."""
    setting = replace(setting, kv=kv)
    router, events = FixedTurns([0, 1, 1, 0]), list[Event]()
    with setting.load() as ladder:
        play_episode(GAME.open(), ladder, router, Options(max_steps=STEPS), [events.append])
    played = [e for e in events if isinstance(e, StepFinished)]
    asked = [e for e in events if isinstance(e, Routed)]
    seen = np.stack([f.vector for f in router.seen])

    there = explorer(setting)
    for tier in (1, 0):  # other histories first: what is asked must not depend on it
        node = there.root
        while not node.done:
            node = there.child(node, tier)
    forest = Forest(2)
    forest.add_tree(there.tree)

    def expand(pairs: Sequence[tuple[int, int]]) -> None:
        for row, tier in pairs:
            forest.add(0, [there.child(forest.nodes[row], tier)])

    policy = RouterPolicy(lambda: router, NAMES, forest)
    walks = walk(forest, np.array([0]), policy, expand=expand)
    nodes = [forest.nodes[row] for row in walks.rows[:, 0]]
    written = [n.writings[t] for n, t in zip(nodes, walks.tiers[:, 0], strict=True)]
    assert [w.text for w in written] == [s.text for s in played]
    assert [w.action for w in written] == [s.action for s in played]
    assert [n.writings[0].text for n in nodes] == [a.draft for a in asked]
    assert [n.reply for n in nodes[1:]] == [s.observation for s in played[:-1]]
    assert np.array_equal(walks.features[:, 0], seen)


def test_histories_are_written_in_the_prompt_style_that_the_ladder_names(
    setting: LadderSetting, tmp_path: Path
) -> None:
    """The same weights, which say "household" themselves or by the ladder's name for it."""
    paths = write_tiny_ladder(tmp_path, TINY_QWEN3, NAMES)
    plain = LadderSetting(
        tuple(TierSpec(n, paths[n]) for n in NAMES), max_steps=STEPS, prompt="household"
    )
    with Workers(plain, None) as workers:
        task = WorkItem(GAME, (), ExplorePlan((), 0))
        ((_, theirs),) = workers.run([task])
    with Workers(setting, None) as workers:
        ((_, ours),) = workers.run([task])
    assert [n.prompt_tokens for n in theirs] == [n.prompt_tokens for n in ours]
    assert [n.writings for n in theirs] == [n.writings for n in ours]


def test_rollouts_are_kept_apart_by_the_prompt_style(setting: LadderSetting) -> None:
    household, react = replace(setting, prompt="household"), replace(setting, prompt="react")
    assert setting.identity() == household.identity() != react.identity()
    assert "prompt" not in household.conditions()  # stores of before the style was kept stay valid


def test_with_exact_kv_histories_do_not_depend_on_the_order_either(setting: LadderSetting) -> None:
    setting = replace(setting, kv="exact")

    def nodes(order: Sequence[tuple[int, ...]]) -> dict[bytes, Node]:
        there = explorer(setting)
        for choices in order:
            node = there.root
            for tier in choices:
                node = there.child(node, tier)
        return there.tree.nodes

    paths = [(0, 0), (1, 1), (0, 1)]
    one, other = nodes(paths), nodes(paths[::-1])
    assert one.keys() == other.keys()
    for key, node in one.items():
        assert node.writings == other[key].writings
        assert np.array_equal(node.features, other[key].features)


def test_equal_texts_are_one_branch(setting: LadderSetting) -> None:
    there = explorer(LadderSetting((setting.tiers[0], replace(setting.tiers[0], name="twin"))))
    there._max_steps = 2
    node = there.child(there.root, 1)
    assert there.child(there.root, 0) is node
    assert node.tier == 0
    assert len(there.tree.nodes) == 2
    # Not 0: the high tier computes the prompt's last token by itself, the low tier computes it
    # among others, and llama.cpp's results differ by rounding. It is the floor of any KL here.
    assert node.writings[0].kl_mean < 1e-3


def test_the_kl_of_a_history_is_that_of_two_teacher_forced_models(setting: LadderSetting) -> None:
    """Recomputed with two ladders of one tier, for a step at which the texts differ."""
    exact = replace(setting, kv="exact")
    there = explorer(exact)
    node = there.root
    best, low = node.writings[1], node.writings[0]
    assert best.tokens != low.tokens
    rows = []
    for spec in exact.tiers:
        with replace(exact, tiers=(spec,)).load() as alone:
            decoder = Decoder(alone)
            decoder._write_prompts(GAME.open().reset(), [])
            prompt = decoder._prompts[0]
            alone.prefill(prompt)
            logits = [alone.logits().copy()]
            for n in range(len(best.tokens)):
                alone.tiers[0].decode([best.tokens[n]])
                logits.append(alone.tiers[0].context.logits().copy())
            rows.append(np.stack(logits)[: setting_tokens(decoder)])
    high, low_rows = log_softmax(rows[1]), log_softmax(rows[0])
    kl = kl_divergence(high, low_rows)[: len(best.tokens)]
    # Up to rounding: a token computed alone is not to the bit the token computed among others.
    assert low.kl_sum == pytest.approx(kl.sum(), rel=1e-2)
    assert low.kl_max == pytest.approx(kl.max(), rel=5e-2)
    assert best.kl_sum == 0.0


def setting_tokens(decoder: Decoder) -> int:
    """A random model does not end by itself: its step has as many tokens as the style allows."""
    return decoder.style.max_tokens


# -- the oracle ------------------------------------------------------------------------


def test_the_oracle_takes_the_sensitive_steps_and_no_other() -> None:
    tree = toy_tree(ToyGame("toy/a", (False, True, False, True)))
    assert tree.root is not None
    found = search(tree.root, tree.known_child, tier_weights(2))
    assert (found.best, found.exact) == (2.0, True)
    assert [tier for _, tier in found.path] == [0, 1, 0, 1]


def test_no_policy_wins_at_less_cost_than_the_oracle_says() -> None:
    """All sixteen ways to play, against the bound."""
    tree = toy_tree(ToyGame("toy/b", (True, False, True, False)))
    assert tree.root is not None
    found = search(tree.root, tree.known_child, tier_weights(2))
    for node in tree.nodes.values():
        if node.won:
            road = tree.path(node)[1:]
            assert sum(step.tier for step in road) >= found.best


def test_an_unexplored_tree_gives_bounds() -> None:
    tree = toy_tree(ToyGame("toy/c", (False, True, False, True)))
    root = tree.root
    assert root is not None
    low = tree.known_child(root, 0)
    assert low is not None
    gone = [key for key, node in tree.nodes.items() if node.step == 4 and node.won]
    for key in gone:
        del tree.nodes[key]
    found = search(root, tree.known_child, tier_weights(2))
    assert math.isinf(found.best)
    assert found.at_least == 2.0  # histories that cost less are all known, and lost
    short = search(root, tree.known_child, tier_weights(2), budget=3)
    assert math.isinf(short.best)
    assert short.at_least <= 2.0


def test_three_tiers_are_weighed_by_their_place() -> None:
    tree = toy_tree(ToyGame("toy/d", (True, False)), tiers=3)
    assert tree.root is not None
    found = search(tree.root, tree.known_child, tier_weights(3))
    assert found.best == 0.5  # the middle tier will do


# -- labels ----------------------------------------------------------------------------


def test_labels_by_hand() -> None:
    forest = Forest(2)
    forest.add_tree(toy_tree(ToyGame("toy/e", (True, False))))
    running = np.flatnonzero(~forest.done[: forest.size])
    start = forest.row(0, forest.trees[0].root.key)  # type: ignore[union-attr]
    assert by_kl(forest.kl[running, :, 0], 0.5).tolist() == [
        int(forest.nodes[row].step == 0) for row in running
    ]
    assert by_action(forest)[running].tolist() == [1] * len(running)  # toys never agree
    assert to_win(forest)[start] == 1.0
    assert by_oracle(forest)[start] == 1
    won = forest.child[start, 1]
    lost = forest.child[start, 0]
    assert by_oracle(forest)[won] == 0  # after the sensitive step the low tier will do
    assert by_oracle(forest)[lost] == -1  # nothing wins any more


def test_walks_stop_or_complain_where_the_tree_ends() -> None:
    tree = toy_tree(ToyGame("toy/f", (False, False)))
    for key in [k for k, n in tree.nodes.items() if n.step == 2]:
        del tree.nodes[key]
    forest = Forest(2)
    forest.add_tree(tree)
    with pytest.raises(UnexploredError):
        walk(forest, np.array([0]), FixedPolicy(0))
    walks = walk(forest, np.array([0]), FixedPolicy(0), stop_where_unknown=True)
    assert not walks.whole[0]
    assert not walks.won[0]
    assert walks.steps.tolist() == [2]


def test_features_of_the_route_follow_the_choices() -> None:
    forest, _ = toy_forest(1)
    policy = RouterPolicy(lambda: FixedTurns([1, 0, 1, 0]), ("a", "b"), forest)
    walks = walk(forest, np.array([0]), policy, dials=0.25)
    seen = {name: walks.features[:, 0, ALL_NAMES.index(name)].tolist() for name in ALL_NAMES}
    assert seen["last_tier"] == [-1, 1, 0, 1]
    assert seen["escalated_share"] == pytest.approx([0, 1, 0.5, 2 / 3])
    assert seen["escalated_steps"] == pytest.approx([0, 0.1, 0.1, 0.2])
    assert seen["last_min_p"] == pytest.approx([1, 0.9, 0.9, 0.9])
    assert seen["dial"] == [0.25] * 4


# -- the store -------------------------------------------------------------------------


def test_what_is_stored_comes_back(setting: LadderSetting, tmp_path: Path) -> None:
    there = explorer(setting)
    new = run(there, ExplorePlan((0.5,), 8))
    store = RolloutStore(tmp_path / "r.sqlite", setting.identity())
    store.add(GAME.key, new, "plan")
    tree = store.load(GAME)
    assert store.finished("plan") == {GAME.key}
    assert tree.nodes.keys() == there.tree.nodes.keys()
    for key, node in there.tree.nodes.items():
        kept = tree.nodes[key]
        assert kept.writings == node.writings
        assert np.array_equal(kept.features, node.features)
        assert replace(kept, features=node.features) == node
    other = RolloutStore(tmp_path / "r.sqlite", "another ladder")
    assert other.load(GAME).nodes == {}


@dataclass(frozen=True)
class HeldGame:
    """The game GAME, which does not begin before the file `until` exists."""

    until: Path
    key: str = "held"
    kind: str = GAME.kind
    task: str = GAME.task

    def open(self) -> Game:
        ending = time.monotonic() + PATIENCE
        while not self.until.exists():
            if time.monotonic() > ending:
                raise TimeoutError("no other game was stored")
            time.sleep(0.05)
        return GAME.open()


@pytest.mark.slow
def test_a_long_game_holds_back_no_other_and_leaves_no_mark(
    setting: LadderSetting, tmp_path: Path
) -> None:
    """The first game begins when the second is stored; the rows are those of one process."""
    held = HeldGame(tmp_path / "stored")
    games: list[KeyedGame] = [held, *drawn("train", 2)]
    plan = ExplorePlan((0.5,), 3)

    def progress(what: str, total: int, done: int = 0) -> Step:
        return held.until.touch

    def rows(path: Path, backend: Backend | None) -> list[tuple[int, bytes]]:
        with Rollouts(setting, path, backend, progress) as rollouts:
            assert rollouts.take(games).tolist() == [0, 1, 2]
            if backend is not None:
                held.until.unlink()
            rollouts.collect(games, plan)
            assert rollouts.store.finished(plan.what) == {game.key for game in games}
            forest = rollouts.forest
            return [(int(forest.game[row]), node.key) for row, node in enumerate(forest.nodes)]

    assert rows(tmp_path / "two", Backend(2)) == rows(tmp_path / "one", None)
    assert list(content(tmp_path / "two")) == list(content(tmp_path / "one"))


def test_a_wanted_history_is_followed_to_its_end(setting: LadderSetting) -> None:
    there = explorer(setting)
    root = there.root
    there.taken()
    new = run(there, Wanted(((root.key, 1),)))
    assert [node.step for node in new] == [1, 2, 3, 4]
    assert new[-1].done


def test_files_that_are_no_store_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(UserError, match="cannot be used as a store of rollouts"):
        RolloutStore(tmp_path / "x.sqlite", "a")
    with sqlite3.connect(tmp_path / "y.sqlite") as db:
        db.execute("CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT)")
        db.execute("INSERT INTO about VALUES ('format', 'edge-router/rollouts/99')")
    db.close()
    with pytest.raises(UserError, match="holds rollouts of the format edge-router/rollouts/99"):
        RolloutStore(tmp_path / "y.sqlite", "a")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE writing SET tokens = x'010203'",
        "UPDATE writing SET min_p = 'much'",
        "UPDATE writing SET text = NULL",
        "UPDATE node SET features = x'0000803f0000803f'",
        "UPDATE node SET step = NULL",
        "DELETE FROM node WHERE parent IS NULL",
        "DELETE FROM writing",
    ],
)
def test_damaged_histories_are_told_in_one_sentence(damage: str, tmp_path: Path) -> None:
    game = ToyGame("toy/g", (True, False))
    store = RolloutStore(tmp_path / "r.sqlite", "a")
    store.add(game.key, toy_tree(game).nodes.values())
    store.load(game)
    store.close()
    with sqlite3.connect(tmp_path / "r.sqlite") as db:
        db.execute(damage)
    with pytest.raises(UserError, match=r"a damaged history of the game toy/g; delete the file"):
        RolloutStore(tmp_path / "r.sqlite", "a").load(game)


def test_a_store_that_is_damaged_on_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "r.sqlite", "a")
    for index in range(60):
        game = ToyGame(f"toy/{index}", (True, False, True, False))
        store.add(game.key, toy_tree(game).nodes.values())
    store.close()
    data = bytearray((tmp_path / "r.sqlite").read_bytes())
    data[3 * 4096 :] = b"\xff" * len(data[3 * 4096 :])
    (tmp_path / "r.sqlite").write_bytes(data)
    with pytest.raises(UserError, match="cannot be used as a store of rollouts"):
        RolloutStore(tmp_path / "r.sqlite", "a").load(game)


@pytest.mark.slow
def test_dask_explores_the_same_histories(setting: LadderSetting, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    games, plan = drawn("train", 3), ExplorePlan((0.5,), 6)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        backends = {"dask": Backend(scheduler=cluster.scheduler_address), "here": None}
        for name, backend in backends.items():
            with Rollouts(setting, tmp_path / name, backend) as rollouts:
                rollouts.collect(games, plan)
    assert list(content(tmp_path / "dask")) == list(content(tmp_path / "here"))


COLLECT = """
import os, signal, sys
from pathlib import Path
from edge_router.engine.tier import TierSpec
from edge_router.tasks.protocol import Game
from edge_router.work.pool import Backend
from edge_router.work.progress import Step
from train.router.explore import ExplorePlan
from train.router.games import drawn
from train.router.rollouts import Rollouts
from train.router.setting import LadderSetting

def main():
    store, kill_after, *tiers = sys.argv[1:]
    specs = tuple(TierSpec(*t.split("=")) for t in tiers)
    specs = tuple(TierSpec(s.name, Path(s.path)) for s in specs)
    done = 0

    def progress(what, total, before):
        def step():
            nonlocal done
            done += 1
            if done == int(kill_after):
                os.kill(os.getpid(), signal.SIGKILL)
        return step

    with Rollouts(LadderSetting(specs, max_steps=3), Path(store), Backend(1), progress) as rollouts:
        rollouts.collect(drawn("train", 4), ExplorePlan((0.5,), 6))

if __name__ == "__main__":
    main()
"""


def content(path: Path) -> Iterator[tuple[object, ...]]:
    with sqlite3.connect(path) as db:
        for table, order in (
            ("node", "1, 2, 3"),
            ("writing", "1, 2, 3, 4"),
            ("finished", "1, 2, 3"),
        ):
            yield from db.execute(f"SELECT * FROM {table} ORDER BY {order}")


@pytest.mark.slow
def test_a_killed_collection_goes_on_to_the_same_store(
    specs: tuple[TierSpec, ...], tmp_path: Path
) -> None:
    script = tmp_path / "collect_script.py"
    script.write_text(textwrap.dedent(COLLECT))

    def collect(store: str, kill_after: int) -> int:
        tiers = [f"{s.name}={s.path}" for s in specs]
        command = [sys.executable, str(script), str(tmp_path / store), str(kill_after), *tiers]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode

    assert collect("whole", -1) == 0
    assert collect("broken", 2) == -signal.SIGKILL
    assert 0 < len(list(content(tmp_path / "broken"))) < len(list(content(tmp_path / "whole")))
    assert collect("broken", -1) == 0
    assert list(content(tmp_path / "broken")) == list(content(tmp_path / "whole"))
