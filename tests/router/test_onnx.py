"""ONNX routers decide as their network says, and files that do not fit are refused.

The networks are real ones, small enough to compute by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from edge_router.errors import UserError
from edge_router.router.base import Features
from edge_router.router.feature_table import NAMES, SCHEMA
from edge_router.router.registry import make_router

TWO = ("q4_k_m", "q8_0")
THREE = ("q3_k_m", "q4_k_m", "q8_0")
META = {"edge_router.schema": SCHEMA, "edge_router.features": json.dumps(NAMES)}
FLOAT = TensorProto.FLOAT


def features(**values: float) -> Features:
    vector = np.array([values.get(name, 0.0) for name in NAMES], np.float32)
    return Features(SCHEMA, NAMES, vector)


def value(name: str, *shape: int | str, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name: str, array: Any) -> Any:
    data = np.asarray(array, np.float32)
    return helper.make_tensor(name, FLOAT, data.shape, data.ravel().tolist())


def write(
    path: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    constants: list[Any],
    meta: dict[str, str] | None = None,
) -> str:
    graph = helper.make_graph(nodes, "router", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    helper.set_model_props(model, META if meta is None else meta)
    save(model, str(path))
    return f"onnx:{path}"


def single(path: Path, meta: dict[str, str] | None = None, **shapes: Any) -> str:
    """sigmoid(entropy - 1): one probability of escalating to the high tier."""
    weights = np.zeros((len(NAMES), 1))
    weights[NAMES.index("entropy")] = 1.0
    nodes = [
        helper.make_node("Gemm", ["features", "w", "b"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["probabilities"]),
    ]
    inputs = [shapes.get("features", value("features", 1, len(NAMES)))]
    outputs = [shapes.get("probabilities", value("probabilities", 1, 1))]
    return write(path, nodes, inputs, outputs, [tensor("w", weights), tensor("b", [-1.0])], meta)


def softmax(path: Path, logits: list[float], meta: dict[str, str] | None = None) -> str:
    """The same probabilities for every step."""
    nodes = [
        helper.make_node("Gemm", ["features", "w", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
    ]
    constants = [tensor("w", np.zeros((len(NAMES), len(logits)))), tensor("b", logits)]
    inputs = [value("features", "batch", len(NAMES))]
    return write(
        path, nodes, inputs, [value("probabilities", "batch", len(logits))], constants, meta
    )


def counting(path: Path, wired: bool = True) -> str:
    """0.3 for each step so far: a state that is carried along."""
    nodes = [
        helper.make_node("Add", ["state_in", "step"], ["state_out"]),
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["state_out", "nothing"], ["probabilities"]),
    ]
    inputs = [value("features", 1, len(NAMES)), value("state_in", 1, 1)]
    outputs = [value("probabilities", 1, 1)]
    outputs += [value("state_out", 1, 1)] if wired else []
    return write(path, nodes, inputs, outputs, [tensor("step", [[0.3]]), tensor("zero", [[0.0]])])


def test_one_probability_chooses_the_low_or_the_high_tier(tmp_path: Path) -> None:
    router = make_router(single(tmp_path / "r.onnx"))
    for tiers in (TWO, THREE):
        router.reset(tiers, 0)
        unsure = router.decide(features(entropy=2.0))
        assert unsure.tier == len(tiers) - 1
        assert unsure.probability == pytest.approx(0.7310586)
        assert unsure.reason == "p(escalate) 0.73 >= 0.50"
        sure = router.decide(features(entropy=0.0, margin=5.0))
        assert (sure.tier, sure.reason) == (0, "p(escalate) 0.27 < 0.50")
    assert str(router.spec) == f"onnx:{tmp_path / 'r.onnx'}"


def test_the_files_own_threshold_counts(tmp_path: Path) -> None:
    router = make_router(single(tmp_path / "r.onnx", META | {"edge_router.threshold": "0.9"}))
    router.reset(TWO, 0)
    assert router.decide(features(entropy=2.0)).reason == "p(escalate) 0.73 < 0.90"
    assert router.decide(features(entropy=2.0)).tier == 0


@pytest.mark.parametrize(
    ("probabilities", "tier", "reason"),
    [
        ([0.6, 0.3, 0.1], 0, "p(escalate) 0.40 < 0.50"),
        ([0.3, 0.4, 0.3], 1, "p(escalate) 0.70 >= 0.50"),
        ([0.3, 0.1, 0.6], 2, "p(escalate) 0.60 >= 0.50"),
    ],
)
def test_a_probability_for_each_tier_chooses_the_lowest_tier_that_will_do(
    tmp_path: Path, probabilities: list[float], tier: int, reason: str
) -> None:
    router = make_router(softmax(tmp_path / "r.onnx", np.log(probabilities).tolist()))
    router.reset(THREE, 0)
    decision = router.decide(features())
    assert (decision.tier, decision.reason) == (tier, reason)
    assert decision.probability == pytest.approx(1 - probabilities[0])


def test_state_is_carried_through_an_episode_and_zeroed_for_the_next(tmp_path: Path) -> None:
    router = make_router(counting(tmp_path / "r.onnx"))
    for _ in range(2):
        router.reset(TWO, 0)
        found = [router.decide(features()).probability for _ in range(3)]
        assert found == pytest.approx([0.3, 0.6, 0.9])


def refused(spec: str) -> str:
    with pytest.raises(UserError) as caught:
        make_router(spec)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_files_that_are_no_onnx_are_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.onnx"
    assert refused(f"onnx:{missing}") == (
        f"router file {missing} does not exist or is not a file; check the path"
    )
    assert "is not a file" in refused(f"onnx:{tmp_path}")
    for content in (b"", b"not a network", b"\x08\x08"):
        (tmp_path / "text.onnx").write_bytes(content)
        assert "is not an ONNX file that can be loaded" in refused(f"onnx:{tmp_path / 'text.onnx'}")
    single(tmp_path / "whole.onnx")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes((tmp_path / "whole.onnx").read_bytes()[:100])
    assert "is not an ONNX file that can be loaded" in refused(f"onnx:{cut}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"edge_router.schema": ""}, "does not say which features it reads"),
        (
            {"edge_router.schema": "edge-router/features/0"},
            "was trained on features 'edge-router/features/0' but this version computes "
            "'edge-router/features/4'",
        ),
        ({"edge_router.features": json.dumps(NAMES[1:])}, "lacks entropy; train it again"),
        ({"edge_router.features": json.dumps([*NAMES, "mood"])}, "has unknown mood;"),
        ({"edge_router.features": json.dumps(NAMES[::-1])}, "the same names in another order"),
        ({"edge_router.features": "entropy"}, "edge_router.features is not a JSON list of names"),
        ({"edge_router.features": "[1]"}, "edge_router.features is not a JSON list of names"),
        ({"edge_router.tiers": "3"}, "edge_router.tiers is not a JSON list of names"),
        ({"edge_router.threshold": "high"}, "is 'high', not a number between 0 and 1"),
        ({"edge_router.threshold": "2"}, "is '2', not a number between 0 and 1"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, str], words: str
) -> None:
    assert words in refused(single(tmp_path / "r.onnx", META | change))


def test_a_file_without_our_metadata_is_refused(tmp_path: Path) -> None:
    assert "it is not a router of ours" in refused(single(tmp_path / "r.onnx", {}))
    schema_only = {"edge_router.schema": SCHEMA}
    assert "lacks entropy, p1" in refused(single(tmp_path / "r.onnx", schema_only))


def test_shapes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path, n = tmp_path / "r.onnx", len(NAMES)
    wide = softmax(path, [0.0, 0.0], META | {"edge_router.tiers": json.dumps(THREE)})
    assert "names 3 tiers but gives 2 probabilities" in refused(wide)
    longer = write(
        path,
        [helper.make_node("Sigmoid", ["features"], ["probabilities"])],
        [value("features", 1, n + 1)],
        [value("probabilities", 1, n + 1)],
        [],
    )
    assert f"features of tensor(float) [1, {n + 1}] instead of tensor(float) [1, {n}]" in refused(
        longer
    )
    doubles = write(
        path,
        [helper.make_node("Sigmoid", ["features"], ["probabilities"])],
        [value("features", 1, n, kind=TensorProto.DOUBLE)],
        [value("probabilities", 1, n, kind=TensorProto.DOUBLE)],
        [],
    )
    assert "features of tensor(double)" in refused(doubles)
    cube = write(
        path,
        [helper.make_node("Unsqueeze", ["features", "axis"], ["probabilities"])],
        [value("features", 1, n)],
        [value("probabilities", 1, 1, n)],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [0])],
    )
    assert "an output probabilities of tensor(float) [1, 1, " in refused(cube)


def test_other_inputs_and_outputs_are_refused(tmp_path: Path) -> None:
    path, n = tmp_path / "r.onnx", len(NAMES)
    for name_in, name_out, words in (
        ("x", "probabilities", "inputs x instead of features"),
        ("features", "y", "outputs y without probabilities"),
    ):
        node = helper.make_node("Sigmoid", [name_in], [name_out])
        spec = write(path, [node], [value(name_in, 1, n)], [value(name_out, 1, n)], [])
        assert words in refused(spec)
    assert "only one of state_in and state_out" in refused(counting(path, wired=False))


def test_another_number_of_tiers_is_refused_when_the_ladder_is_known(tmp_path: Path) -> None:
    named = single(tmp_path / "named.onnx", META | {"edge_router.tiers": json.dumps(TWO)})
    wide = softmax(tmp_path / "wide.onnx", [0.0, 0.0])
    for spec in (named, wide):
        router = make_router(spec)
        router.reset(TWO, 0)
        with pytest.raises(UserError, match="was trained for 2 tiers") as error:
            router.reset(THREE, 0)
        assert "but the ladder has 3 (q3_k_m, q4_k_m, q8_0)" in str(error.value)


def test_a_router_made_for_tiers_of_other_names_or_order_is_refused(tmp_path: Path) -> None:
    router = make_router(
        single(tmp_path / "named.onnx", META | {"edge_router.tiers": json.dumps(TWO)})
    )
    for tiers in (("low", "high"), TWO[::-1]):
        with pytest.raises(UserError, match=re.escape(f"the ladder has 2 ({', '.join(tiers)})")):
            router.reset(tiers, 0)


def test_outputs_that_are_no_probabilities_are_refused(tmp_path: Path) -> None:
    weights = np.zeros((len(NAMES), 2))
    for logits in ([0.2, 0.2], [-3.0, 4.0], [float("nan"), 0.0]):
        router = make_router(
            write(
                tmp_path / "r.onnx",
                [helper.make_node("Gemm", ["features", "w", "b"], ["probabilities"])],
                [value("features", 1, len(NAMES))],
                [value("probabilities", 1, 2)],
                [tensor("w", weights), tensor("b", logits)],
            )
        )
        router.reset(TWO, 0)
        with pytest.raises(UserError, match="which is not probabilities; export it with a softmax"):
            router.decide(features())
