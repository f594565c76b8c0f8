"""What a routing decision costs: the features, and each router's decision, in microseconds.

A decision is made before every step, so it has to vanish beside a step's prefill and decode.
Features are measured on three shapes of next-token distribution, because a certain one lets most
of the vocabulary be left out and an uncertain one does not. The network is a small one with
random weights, written on the fly (two layers, 32 wide: about what the training makes); it needs
the onnx package and is left out without it.
"""

from __future__ import annotations

import importlib
import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.bench.timing import Work, microseconds
from edge_router.router.base import Router
from edge_router.router.feature_table import NAMES, SCHEMA
from edge_router.router.features import StepContext, extract
from edge_router.router.registry import make_router

TIERS: Final = ("q4_k_m", "q8_0")
BASELINES: Final = ("low", "high", "tier:q8_0", "random:0.5", "entropy:0.8", "margin:0.2")
CONTEXT: Final = StepContext(7, 50, 1500, 60, True, 1, 1, 0, 0.25, 0.9, 0.5)
HIDDEN: Final = 32
# Normal logits of spread 2.5 under one peak: height of the peak by name.
PEAKS: Final = {"certain": 45.0, "usual": 20.0, "uncertain": 11.0}


def decision_figures(vocabulary: int, calls: int = 2000) -> list[dict[str, Any]]:
    """Median and 99th percentile of each piece of work over `calls` calls."""
    figures = []
    for name, peak in PEAKS.items():
        work = _bound(extract, peaked(vocabulary, peak), CONTEXT)
        figures.append(_timed(f"features, {name}", work, calls))
    features = extract(peaked(vocabulary, PEAKS["usual"]), CONTEXT)
    with tempfile.TemporaryDirectory() as folder:
        for name, router in _routers(Path(folder)):
            router.reset(TIERS, 0)
            figures.append(_timed(name, _bound(router.decide, features), calls))
    return figures


def _routers(folder: Path) -> list[tuple[str, Router]]:
    routers: list[tuple[str, Router]] = [(spec, make_router(spec)) for spec in BASELINES]
    try:
        # By name: a run must not need onnx, so no import statement in the package names it.
        onnx = importlib.import_module("onnx")
    except ImportError:
        return routers
    write_network(onnx, folder / "router.onnx")
    name = f"onnx, {len(NAMES)}-{HIDDEN}-{HIDDEN}-1"
    return [*routers, (name, make_router(f"onnx:{folder / 'router.onnx'}"))]


def _bound(function: Callable[..., object], *arguments: object) -> Work:
    return lambda: function(*arguments)


def _timed(what: str, work: Work, calls: int) -> dict[str, Any]:
    median, p99 = microseconds(work, calls)
    return {"what": what, "median_us": round(median, 2), "p99_us": round(p99, 2), "n": calls}


def peaked(vocabulary: int, peak: float) -> NDArray[np.float32]:
    """Logits (vocabulary,) under a peak of this height, the same at every call."""
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal(vocabulary) * 2.5).astype(np.float32)
    logits[vocabulary // 2] = peak
    return logits


def write_network(onnx: Any, path: Path) -> None:
    """A network of two ReLU layers with random weights, as a router file."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    rng = np.random.default_rng(0)
    sizes, nodes, constants, last = (len(NAMES), HIDDEN, HIDDEN, 1), [], [], "features"
    for i, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        weights = (rng.standard_normal(rows * columns) / np.sqrt(rows)).tolist()
        constants += [
            helper.make_tensor(f"w{i}", kind, [rows, columns], weights),
            helper.make_tensor(f"b{i}", kind, [columns], [0.0] * columns),
        ]
        final = i == len(sizes) - 2
        out = "probabilities" if final else f"h{i}"
        nodes += [
            helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"z{i}"]),
            helper.make_node("Sigmoid" if final else "Relu", [f"z{i}"], [out]),
        ]
        last = out
    graph = helper.make_graph(
        nodes,
        "router",
        [helper.make_tensor_value_info("features", kind, [1, len(NAMES)])],
        [helper.make_tensor_value_info("probabilities", kind, [1, 1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8  # what every onnxruntime that we allow can read
    meta = {"edge_router.schema": SCHEMA, "edge_router.features": json.dumps(NAMES)}
    helper.set_model_props(model, meta)
    onnx.save(model, str(path))
