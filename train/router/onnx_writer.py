"""A trained network as the ONNX file that `--router onnx:PATH` reads.

The graph is written node by node: it holds the lift, the normalisation and the
softmax, so the file takes the features as `edge_router.router.features` computes
them. What it was trained on, and what its dial means, is in the metadata.
`parity` compares it with PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_router.files.whole import whole
from edge_router.router.feature_table import SCHEMA
from edge_router.router.onnx_file import open_session
from train.router.network import FLOOR, RouterNet

OPSET, IR_VERSION = 17, 8  # what every onnxruntime that we allow can read
TOLERANCE = 1e-5  # largest difference of a probability that counts as parity


@dataclass(frozen=True)
class RouterCard:
    """What a router's file says about itself besides the network."""

    tiers: Sequence[str]
    fingerprints: Sequence[str]  # SHA-256 of the tiers' files
    dial: Sequence[tuple[float, float, float]]  # dial, the network's dial, escalation rate
    training: Mapping[str, Any]  # summary, plain data


def write(net: RouterNet, card: RouterCard, path: Path) -> None:
    """Write `path`; it appears only when it is whole."""
    graph = _Graph(net)
    model = helper.make_model(graph.build(), opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    helper.set_model_props(model, _metadata(net, card))
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        onnx.save(model, str(partial))


def _metadata(net: RouterNet, card: RouterCard) -> dict[str, str]:
    return {
        "edge_router.schema": SCHEMA,
        "edge_router.features": json.dumps(net.shape.names),
        "edge_router.tiers": json.dumps(list(card.tiers)),
        "edge_router.threshold": "0.5",
        "edge_router.dial": json.dumps([list(row) for row in card.dial]),
        "edge_router.fingerprints": json.dumps(list(card.fingerprints)),
        "edge_router.training": json.dumps(card.training, sort_keys=True),
    }


class _Graph:
    """The network's nodes and constants."""

    def __init__(self, net: RouterNet) -> None:
        self._net, self._shape = net, net.shape
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def build(self) -> Any:
        shape, width = self._shape, len(self._shape.names)
        inputs = [_value("features", 1, width)]
        outputs = [_value("probabilities", 1, shape.tiers)]
        x = self._read("features")
        if shape.state:
            inputs.append(_value("state_in", 1, shape.state))
            outputs.append(_value("state_out", 1, shape.state))
            self._gru(x, "state_in", "state_out")
            x = self._node("Concat", [x, "state_out"], "remembering", axis=1)
        for name in ("first", "second"):
            x = self._node("Relu", [self._linear(x, name)], f"{name}_out")
        self._node("Softmax", [self._linear(x, "last")], "probabilities", axis=1)
        return helper.make_graph(self._nodes, "router", inputs, outputs, self._constants)

    def _read(self, features: str) -> str:
        """Lift, normalise, clamp: one logarithm serves certainties and doubts.

        max(features * a + b, 0) is 1 - x for a certainty, x for a doubt and 0 for the others.
        """
        certain, doubtful = _array(self._net.certain), _array(self._net.doubtful)
        mean, scale = _array(self._net.mean), _array(self._net.scale)
        turned = self._node("Mul", [features, self._constant("a", doubtful - certain)], "turned")
        inner = self._node("Add", [turned, self._constant("b", certain)], "inner")
        inner = self._node("Relu", [inner], "positive")
        inner = self._node(
            "Add", [inner, self._constant("floor", np.full(1, FLOOR, np.float32))], "floored"
        )
        log = self._node("Log", [inner], "log")
        log = self._node("Mul", [log, self._constant("c", (doubtful - certain) * scale)], "lifted")
        factor = self._constant("d", (1 - certain - doubtful) * scale)
        plain = self._node("Mul", [features, factor], "plain")
        both = self._node("Add", [log, plain], "both")
        x = self._node("Add", [both, self._constant("e", -mean * scale)], "normal")
        limits = [self._constant("least", np.float32(-5)), self._constant("most", np.float32(5))]
        return self._node("Clip", [x, *limits], "x")

    def _gru(self, x: str, before: str, after: str) -> None:
        """PyTorch's GRUCell: h + z * (h_in - h) with h = tanh(W x + r * (U h_in))."""
        cell = self._net.gru
        assert cell is not None
        parts = {
            "i": self._gemm(x, "gru_i", _array(cell.weight_ih), _array(cell.bias_ih)),
            "h": self._gemm(before, "gru_h", _array(cell.weight_hh), _array(cell.bias_hh)),
        }
        for side, value in parts.items():
            names = [f"{side}_{gate}" for gate in "rzn"]
            self._nodes.append(helper.make_node("Split", [value], names, axis=1))
        for gate in "rz":
            total = self._node("Add", [f"i_{gate}", f"h_{gate}"], f"sum_{gate}")
            self._node("Sigmoid", [total], gate)
        reset = self._node("Mul", ["r", "h_n"], "reset")
        candidate = self._node("Tanh", [self._node("Add", ["i_n", reset], "sum_n")], "n")
        change = self._node("Sub", [before, candidate], "change")
        kept = self._node("Mul", ["z", change], "kept")
        self._node("Add", [candidate, kept], after)

    def _linear(self, x: str, name: str) -> str:
        layer = getattr(self._net, name)
        return self._gemm(x, name, _array(layer.weight), _array(layer.bias))

    def _gemm(
        self, x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> str:
        constants = [self._constant(f"{name}_w", weight), self._constant(f"{name}_b", bias)]
        return self._node("Gemm", [x, *constants], f"{name}_z", transB=1)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, array: NDArray[np.float32] | np.float32) -> str:
        data = np.asarray(array, np.float32)
        values = data.ravel().tolist()
        self._constants.append(helper.make_tensor(name, TensorProto.FLOAT, data.shape, values))
        return name


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().numpy(), np.float32)


def _value(name: str, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def parity(net: RouterNet, path: Path, episodes: NDArray[np.float32]) -> float:
    """Largest difference of a probability between PyTorch and onnxruntime.

    `episodes` are features (steps, episodes, width); states are carried along on both sides.
    """
    session = open_session(path)
    width, worst = len(net.shape.names), 0.0
    with torch.inference_mode():
        wanted = torch.softmax(net.sequence(torch.from_numpy(episodes)), -1).numpy()
    for episode in range(episodes.shape[1]):
        state = np.zeros((1, net.shape.state), np.float32)
        for step in range(episodes.shape[0]):
            feed = {"features": episodes[step, episode : episode + 1, :width]}
            if net.shape.state:
                feed["state_in"] = state
            found = session.run(None, feed)
            state = found[1] if net.shape.state else state
            worst = max(worst, float(np.abs(found[0] - wanted[step, episode]).max()))
    return worst
