"""GRPO's arithmetic by hand, a problem whose best play is known, and a run that is killed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_router.engine.tier import KvMode
from tests.toy_forest import ToyGame, sensitive_share, toy_forest, toy_tree
from tests.train.test_charges import PROFILE
from train.objective import clipped
from train.router import front
from train.router.charges import by_seconds
from train.router.checkpoint import GrpoState
from train.router.forest import Expand, Forest
from train.router.front import Point
from train.router.network import NetworkShape, RouterNet
from train.router.node import Node
from train.router.objective import (
    advantages,
    entropy,
    kl_divergence,
    lambda_at,
    masked_mean,
)
from train.router.options import GrpoConfig
from train.router.stages.grpo import GrpoTrainer, collapsed
from train.router.tree import GameTree

ROOT = Path(__file__).resolve().parents[2]
TOY = GrpoConfig(
    iterations=80,
    groups=16,
    group_size=8,
    learning_rate=1e-2,
    kl_coefficient=0.0,
    entropy_coefficient=0.002,
    lambda_min=0.1,
    lambda_max=0.1,
    every=30,
)


def untrained(forest_features: np.ndarray, state: int = 0, tiers: int = 2) -> RouterNet:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = RouterNet(NetworkShape(tiers, "draft", hidden=16, state=state))
    net.fit_normalisation(forest_features)
    return net.eval()


def test_advantages_are_centred_in_their_group() -> None:
    rewards = np.array([[1.0, 0.0, 0.0, 1.0], [0.9, 0.8, 0.9, 0.8], [1.0, 1.0, 1.0, 1.0]])
    # centred: +-0.5, +-0.05, 0; their root mean square over all twelve
    scale = math.sqrt((4 * 0.25 + 4 * 0.0025) / 12)
    found = advantages(rewards)
    assert found[0] == pytest.approx([0.5 / scale, -0.5 / scale, -0.5 / scale, 0.5 / scale])
    assert found[1] == pytest.approx([0.05 / scale, -0.05 / scale, 0.05 / scale, -0.05 / scale])
    assert found[2].tolist() == [0.0] * 4


def test_episodes_that_left_the_known_tree_count_for_nothing() -> None:
    rewards = np.array([[1.0, 0.0, 77.0], [0.5, 99.0, 99.0]])
    valid = np.array([[True, True, False], [True, False, False]])
    found = advantages(rewards, "group", valid)
    assert found[0] == pytest.approx([1, -1, 0])
    assert found[1].tolist() == [0.0] * 3
    # three valid ones: +-0.5 and 0
    scale = math.sqrt((0.25 + 0.25 + 0.0) / 3)
    assert advantages(rewards, "batch", valid)[0] == pytest.approx([0.5 / scale, -0.5 / scale, 0])


def test_textbook_advantages_are_divided_by_each_groups_own_spread() -> None:
    rewards = np.array([[1.0, 0.0, 0.0, 1.0], [0.9, 0.8, 0.9, 0.8], [0.3, 0.3, 0.3, 0.3]])
    found = advantages(rewards, "group")
    assert found[0] == pytest.approx([1, -1, -1, 1])
    assert found[1] == pytest.approx([1, -1, 1, -1])  # a tenth of the difference, all the same
    assert found[2].tolist() == [0.0] * 4


def test_the_objective_is_clipped_where_it_would_run_away_and_only_there() -> None:
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1])
    gain = torch.tensor([1.0, 1.0, -1.0, -1.0, 2.0])
    # a good step is not pushed beyond 1.2, a bad one not below 0.8; the way back stays open
    assert clipped(ratio, gain, 0.2).tolist() == pytest.approx([1.2, 0.5, -1.5, -0.8, 2.2])


def test_clipped_steps_have_no_gradient() -> None:
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5], requires_grad=True)
    clipped(ratio, torch.tensor([1.0, 1.0, -1.0, -1.0]), 0.2).sum().backward()  # type: ignore[no-untyped-call]
    assert ratio.grad is not None
    assert ratio.grad.tolist() == [0.0, 1.0, -1.0, 0.0]


def test_kl_and_entropy_of_a_choice() -> None:
    p = torch.tensor([[math.log(0.8), math.log(0.2)], [0.0, 0.0]])
    q = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    by_hand = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert kl_divergence(p, q).tolist() == pytest.approx([by_hand, 0.0], abs=1e-6)
    spread = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    assert entropy(p).tolist() == pytest.approx([spread, math.log(2)])


def test_masked_steps_do_not_count() -> None:
    values = torch.tensor([[1.0, 5.0], [3.0, -7.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, False]])
    mean = masked_mean(values, mask)
    mean.backward()  # type: ignore[no-untyped-call]
    assert float(mean.detach()) == 2.0
    assert values.grad is not None
    assert values.grad.tolist() == [[0.5, 0.0], [0.5, 0.0]]


def test_the_dial_sets_what_escalating_costs() -> None:
    config = GrpoConfig(lambda_min=0.01, lambda_max=1.0)
    assert lambda_at(np.array([0.0, 0.5, 1.0]), config) == pytest.approx([1.0, 0.1, 0.01])


def test_the_documentation_gives_the_settings_that_are_used() -> None:
    text, config = (ROOT / "docs" / "routing.md").read_text(), GrpoConfig()
    for name, value in (
        ("iterations", f"{config.iterations}, of {config.groups} groups"),
        ("group size", f"{config.group_size} episodes"),
        ("epochs", f"{config.epochs} over an iteration's episodes"),
        ("learning rate", f"{config.learning_rate:g} (Adam)"),
        ("clip range", f"{config.clip_range:g}"),
        ("KL coefficient", f"{config.kl_coefficient:g}"),
        ("entropy coefficient", f"{config.entropy_coefficient:g}"),
        ("lambda", f"{config.lambda_max:g} at dial 0 to {config.lambda_min:g} at dial 1"),
    ):
        assert f"| {name} | {value}" in text


@pytest.mark.parametrize("state", [pytest.param(0, marks=pytest.mark.slow), 8])
def test_it_finds_the_best_play_of_a_toy(state: int) -> None:
    """It escalates at every sensitive step, and nowhere else."""
    forest, games = toy_forest()
    net = untrained(forest.features[: forest.size], state)
    run = GrpoTrainer(forest, games, games, net, TOY).run()
    (found,) = front.front(forest, games, run.net.eval(), (1.0,))
    assert found.success == 1.0
    assert found.share == pytest.approx(sensitive_share(forest))


def test_it_spends_nothing_where_escalating_costs_more_than_a_game() -> None:
    forest, games = toy_forest()
    net = untrained(forest.features[: forest.size])
    with torch.no_grad():
        net.last.bias.copy_(torch.tensor([0.0, 1.0]))  # mostly the high tier, to begin with
    before = front.front(forest, games, net, (0.5,))[0]
    run = GrpoTrainer(forest, games, games, net, replace(TOY, lambda_min=8.0, lambda_max=8.0)).run()
    assert before.share > 0.9
    assert [point["share"] for point in run.log[-1]["points"]] == [0.0] * 5


def test_three_tiers_are_learned_as_two_are() -> None:
    forest, games = toy_forest(tiers=3)
    net = untrained(forest.features[: forest.size], tiers=3)
    run = GrpoTrainer(forest, games, games, net, TOY).run()
    (found,) = front.front(forest, games, run.net.eval(), (1.0,))
    assert found.success == 1.0
    assert found.share == pytest.approx(sensitive_share(forest), abs=0.05)


def test_games_that_depend_on_the_router_are_drawn_more_often_and_weighted_back() -> None:
    forest, games = toy_forest(64)
    trainer = GrpoTrainer(forest, games, games, untrained(forest.features[: forest.size]), TOY)
    contested = trainer._contested()
    drawn, weights = trainer._draw_games(np.random.default_rng(0))
    assert contested[drawn].mean() == pytest.approx(TOY.contested)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[contested[drawn]].sum() / weights.sum() == pytest.approx(contested.mean())


def test_a_router_that_does_the_same_at_every_dial_counts_as_collapsed() -> None:
    def points(*shares: float) -> list[Point]:
        return [Point(0.5, share, 0.9, 10.0) for share in shares]

    assert collapsed(points(0.0, 0.001, 0.004))
    assert collapsed(points(0.96, 1.0))
    assert not collapsed(points(0.0, 0.3))


def test_a_collapse_is_undone_from_the_best_network() -> None:
    forest, games = toy_forest()
    net = untrained(forest.features[: forest.size])
    trainer = GrpoTrainer(forest, games, games, net, replace(TOY, iterations=1, every=1))
    state = trainer._start(None)
    trainer._judge(state)
    good = {k: v.clone() for k, v in state.best.items()}
    state.best_score = 2.0  # nothing is better from now on
    state.log.clear()
    with torch.no_grad():
        state.net.last.bias.copy_(torch.tensor([50.0, -50.0]))  # always the low tier
    trainer._judge(state)
    assert state.log[-1]["collapsed"]
    assert all(torch.equal(v, good[k]) for k, v in state.net.state_dict().items())
    assert state.entropy_weight == 2 * TOY.entropy_coefficient


RUN = """
import os, signal, sys
import numpy as np
import torch

from pathlib import Path
from tests.train.test_grpo import TOY, untrained
from tests.toy_forest import toy_forest
from train.router.stages.grpo import GrpoTrainer
from dataclasses import replace

forest, games = toy_forest()
config = replace(TOY, iterations=24, every=5)
killed_at = int(sys.argv[2])

def tell(state, total):
    if state.iteration == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)

net = untrained(forest.features[: forest.size], 8)
state = GrpoTrainer(forest, games, games, net, config).run(Path(sys.argv[1]), tell)
"""


def half_known_toys() -> tuple[Forest, Expand]:
    """Toys of which only the ways of one tier alone are known, and what makes others known."""
    rng = np.random.default_rng(1)
    forest, whole = Forest(2), list[GameTree]()
    for i in range(12):
        whole.append(toy_tree(ToyGame(f"toy {i}", (*map(bool, rng.integers(0, 2, 4)),))))
        root = whole[-1].root
        assert root is not None
        known = [root]
        for tier in (0, 1):
            node: Node | None = root
            while node is not None and not node.done:
                node = whole[-1].known_child(node, tier)
                known += [node] if node else []
        tree = GameTree(whole[-1].game)
        tree.add(known)
        forest.add_tree(tree)

    def expand(pairs: Sequence[tuple[int, int]]) -> None:
        for row, tier in pairs:
            game = int(forest.game[row])
            node = whole[game].known_child(forest.nodes[row], tier)
            assert node is not None
            forest.add(game, [node])

    return forest, expand


def test_costs_of_new_rows_alone_train_the_very_same_network() -> None:
    low_high = ("low", "high")
    costs = partial(by_seconds, profile=PROFILE, names=low_high, decide_at="draft", kv=KvMode())
    sizes: list[tuple[int, int]] = []

    def grown(forest: Forest, known: np.ndarray | None) -> np.ndarray:
        sizes.append((0 if known is None else len(known), forest.size))
        return costs(forest, known)

    made = []
    for step_costs in (grown, lambda forest, known: costs(forest, None)):
        forest, expand = half_known_toys()
        games = np.arange(len(forest.trees))
        net = untrained(forest.features[: forest.size])
        config = replace(TOY, iterations=12, every=4, grown_games=3)
        trainer = GrpoTrainer(forest, games, games[:1], net, config, expand, step_costs)
        state = trainer.run()
        made.append([value.numpy().tobytes() for value in state.net.state_dict().values()])
    assert made[0] == made[1]
    assert len(sizes) > 2  # the tree grew, more than once
    assert [known for known, _ in sizes] == [0, *(size for _, size in sizes[:-1])]


def require_the_same(folder: Path) -> None:
    """What the whole run and the broken one ended with."""
    whole, broken = (torch.load(folder / n, weights_only=True) for n in ("whole", "broken"))
    assert whole["log"] == broken["log"]
    for part in ("net", "best"):
        assert all(torch.equal(whole[part][k], broken[part][k]) for k in whole[part])


def test_a_stopped_run_goes_on_to_the_same_network(tmp_path: Path) -> None:
    forest, games = toy_forest()
    config = replace(TOY, iterations=8, every=3)

    def run(checkpoint: Path, stopped_at: int = -1) -> None:
        def tell(state: GrpoState, total: int) -> None:
            if state.iteration == stopped_at:
                raise KeyboardInterrupt

        net = untrained(forest.features[: forest.size], 8)
        GrpoTrainer(forest, games, games, net, config).run(checkpoint, tell)

    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", 5)
    run(tmp_path / "broken")
    require_the_same(tmp_path)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_network(tmp_path: Path) -> None:
    def run(checkpoint: Path, killed_at: int) -> int:
        command = [sys.executable, "-c", textwrap.dedent(RUN), str(checkpoint), str(killed_at)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode

    assert run(tmp_path / "whole", -1) == 0
    assert run(tmp_path / "broken", 13) == -signal.SIGKILL
    assert run(tmp_path / "broken", -1) == 0
    require_the_same(tmp_path)
