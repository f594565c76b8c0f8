"""What is exported decides as the trained network does, and its dial means what it says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_router.errors import UserError
from edge_router.router.base import Features
from edge_router.router.feature_table import ALL_NAMES, NAMES, SCHEMA
from edge_router.router.onnx_file import open_session
from edge_router.router.onnx_router import OnnxRouter
from tests.toy_forest import toy_forest
from train.router.forest import walk
from train.router.front import Point, score
from train.router.network import NetPolicy, NetworkShape, RouterNet
from train.router.onnx_writer import TOLERANCE, RouterCard, parity, write
from train.router.options import SftConfig
from train.router.policies import RouterPolicy
from train.router.stages import sft
from train.router.stages.export import calibrate

DIAL = [(0.0, 0.0, 0.01), (0.5, 0.4, 0.11), (1.0, 1.0, 0.41)]


def card(tiers: int = 2) -> RouterCard:
    names = ["a", "b", "c"][:tiers]
    return RouterCard(names, ["0" * 64] * tiers, DIAL, {"network": "toy"})


def features(seed: int = 0, steps: int = 12, episodes: int = 20) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.random((steps, episodes, len(ALL_NAMES)), np.float32)
    values[..., NAMES.index("p1")] = 1 - 10 ** rng.uniform(-7, 0, (steps, episodes))
    return values


def network(shape: NetworkShape) -> RouterNet:
    torch.manual_seed(1)
    net = RouterNet(shape)
    net.fit_normalisation(features().reshape(-1, len(ALL_NAMES)))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return net.eval()


SHAPES = [
    NetworkShape(tiers, at, state=state)
    for tiers in (2, 3)
    for at in ("prompt", "draft")
    for state in (0, 16)
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pytorch_and_onnxruntime_agree(shape: NetworkShape, tmp_path: Path) -> None:
    net = network(shape)
    write(net, card(shape.tiers), tmp_path / "r.onnx")
    assert parity(net, tmp_path / "r.onnx", features(1)) < TOLERANCE


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_library_decides_as_the_network_does(shape: NetworkShape, tmp_path: Path) -> None:
    """Whole walks: the router of the file in one, the network in the other."""
    forest, games = toy_forest(8, shape.tiers)
    forest.features[: forest.size] = features(2, forest.size, 1)[:, 0]
    net = network(shape)
    write(
        net,
        RouterCard(["a", "b", "c"][: shape.tiers], [], [(0, 0, 0), (1, 1, 1)], {}),
        tmp_path / "r",
    )
    router = OnnxRouter(tmp_path / "r")
    assert router.decide_at == shape.decide_at
    policy = RouterPolicy(lambda: OnnxRouter(tmp_path / "r"), "abc"[: shape.tiers], forest)
    ours, theirs = walk(forest, games, policy), walk(forest, games, NetPolicy(net))
    assert ours.tiers.any()
    assert np.array_equal(ours.tiers, theirs.tiers)


def test_the_users_dial_reaches_the_network_bent(tmp_path: Path) -> None:
    net = network(NetworkShape(2, "prompt"))
    write(net, card(), tmp_path / "bent.onnx")
    write(net, RouterCard(["a", "b"], [], [(0, 0, 0), (1, 1, 1)], {}), tmp_path / "plain.onnx")

    def probabilities(name: str, dial: float) -> list[float]:
        router = OnnxRouter(tmp_path / name)
        router.reset(("a", "b"), 0)
        vector = features()[0, 0, : len(NAMES)].copy()
        vector[NAMES.index("dial")] = dial
        before = vector.copy()
        decision = router.decide(Features(SCHEMA, NAMES, vector))
        assert np.array_equal(vector, before)  # what listeners show is the user's dial
        assert decision.probability is not None
        return [decision.probability]

    assert probabilities("bent.onnx", 0.5) == pytest.approx(probabilities("plain.onnx", 0.4))
    assert probabilities("bent.onnx", 0.25) == pytest.approx(probabilities("plain.onnx", 0.2))
    assert probabilities("bent.onnx", 0.5) != pytest.approx(probabilities("plain.onnx", 0.5))


def test_a_budget_becomes_the_dial_that_was_measured_to_keep_it(tmp_path: Path) -> None:
    write(network(NetworkShape(2, "prompt")), card(), tmp_path / "r.onnx")
    router = OnnxRouter(tmp_path / "r.onnx")
    assert router.dial_for(0.11) == pytest.approx(0.5)
    assert router.dial_for(0.06) == pytest.approx(0.25)
    assert router.dial_for(0.26) == pytest.approx(0.75)
    assert router.dial_for(0.0) == 0.0
    assert router.dial_for(0.9) == 1.0


@pytest.mark.parametrize(
    "table", ["[]", "3", "[[0, 0, 0]]", "[[0, 0, 0], [0.5, 1, 1]]", "[[0, 0, 2], [1, 1, 1]]"]
)
def test_a_dial_that_is_no_table_is_refused(table: str, tmp_path: Path) -> None:
    import onnx

    write(network(NetworkShape(2, "prompt")), card(), tmp_path / "r.onnx")
    model = onnx.load(str(tmp_path / "r.onnx"))
    for entry in model.metadata_props:
        if entry.key == "edge_router.dial":
            entry.value = table
    onnx.save(model, str(tmp_path / "r.onnx"))
    with pytest.raises(UserError, match=r"edge_router\.dial is not a table"):
        OnnxRouter(tmp_path / "r.onnx")


def test_the_file_tells_what_it_was_made_from(tmp_path: Path) -> None:
    write(network(NetworkShape(2, "draft", state=16)), card(), tmp_path / "r.onnx")
    session = open_session(tmp_path / "r.onnx")
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta["edge_router.tiers"]) == ["a", "b"]
    assert json.loads(meta["edge_router.fingerprints"]) == ["0" * 64] * 2
    assert json.loads(meta["edge_router.training"]) == {"network": "toy"}
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("high", "middle"),
    [
        (0.95, (0.25, 0.08)),  # as good as the high tier alone, at the smallest share
        (0.955, (0.5, 0.15)),
        (0.99, (0.5, 0.15)),  # not to be had within a fifth of the steps: the best within
    ],
)
def test_the_middle_of_the_dial_plays_like_the_high_tier_or_the_best_within_a_fifth_of_the_steps(
    high: float, middle: tuple[float, float]
) -> None:
    points = [
        Point(0.0, 0.01, 0.80, 10),
        Point(0.25, 0.08, 0.95, 10),
        Point(0.5, 0.15, 0.96, 10),
        Point(0.75, 0.35, 0.99, 10),
        Point(1.0, 0.60, 0.99, 10),
    ]
    table = {dial: (inner, share) for dial, inner, share in calibrate(points, high)}
    assert table[0.5] == middle
    assert table[0.0] == (0.0, 0.01)
    assert table[1.0] == (1.0, 0.6)


def test_of_equally_good_dials_the_middle_is_the_one_that_lets_go_of_the_fewest_games() -> None:
    points = [
        Point(0.0, 0.01, 0.80, 10, missed=16),
        Point(0.3, 0.12, 0.97, 10, missed=2),  # as good by games that the high tier loses
        Point(0.4, 0.15, 0.96, 10, missed=0),
        Point(0.5, 0.18, 0.96, 10, missed=0),
        Point(1.0, 0.30, 0.97, 10, missed=0),
    ]
    table = {dial: (inner, share) for dial, inner, share in calibrate(points, 0.96)}
    assert table[0.5] == (0.4, 0.15)


def test_the_score_of_a_front_by_hand() -> None:
    """Low wins half for nothing, one point wins all at a share of 0.2: a straight line between."""
    points = [Point(0.5, 0.2, 1.0, 10), Point(0.7, 0.2, 0.6, 10), Point(1.0, 0.5, 0.9, 10)]
    by_hand = np.mean([0.5 + 0.5 * s / 0.2 for s in (0.05, 0.1, 0.15, 0.2)] + [1.0])
    assert score(points, 0.5) == pytest.approx(by_hand)


@pytest.mark.parametrize("state", [0, 8])
def test_supervision_finds_the_steps_at_which_the_tiers_disagree(state: int) -> None:
    torch.set_num_threads(1)
    forest, games = toy_forest()
    config = SftConfig(label="kl", tau=0.5, epochs=40, batch_size=64, chances=(0.0, 0.3))
    net = sft.train(forest, games, NetworkShape(2, "prompt", state=state), config)
    walks = walk(forest, games, NetPolicy(net))
    assert walks.won.all()
    sensitive = forest.kl[walks.rows, 0, 0] > 0
    assert np.array_equal(walks.tiers == 1, sensitive)
    again = sft.train(forest, games, NetworkShape(2, "prompt", state=state), config)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("label", "odds"), [("action", (math.exp(-3), math.exp(3))), ("kl", (1.0, 1.0))]
)
def test_labels_weigh_by_rarity_and_where_they_are_fixed_by_the_dial(
    label: str, odds: tuple[float, float]
) -> None:
    forest, _ = toy_forest()
    teacher = sft.Teacher(forest, SftConfig(label=label), np.arange(forest.size))
    found, dials = np.array([0, 1, 1, -1]), np.array([0.0, 0.0, 1.0, 1.0])
    by_hand = [1.0, odds[0] / math.sqrt(2), odds[1] / math.sqrt(2), 0.0]
    assert teacher.weights(found, dials).numpy() == pytest.approx(by_hand, rel=1e-5)


def test_the_dial_sets_how_much_counts_as_sensitive() -> None:
    dials = np.array([0.0, 0.5, 1.0])
    assert sft.sensitive_share(dials) == pytest.approx([0.01, np.sqrt(0.01 * 0.5), 0.5])
