"""Measure what a routing decision costs on this machine: the features, and each router's answer.

A decision is made before every step, so it has to vanish beside a step's
prefill and decode. Features are measured on three shapes of next-token
distribution, because a certain one lets most of the vocabulary be left out and
an uncertain one does not. The network is a small one with random weights,
written on the fly (two layers, 32 wide: about what the training makes).

Figures are microseconds; run it on an idle machine, the load average is
printed with them. Needs the onnx package for the network (pip install onnx).

    python -m edge_router.bench.router_figures
    python -m edge_router.bench.router_figures --vocabulary 32000 --json figures.json
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from edge_router.bench.results import write_json
from edge_router.errors import UserError
from edge_router.router.base import Router, StepContext
from edge_router.router.features import NAMES, SCHEMA, FeatureExtractor
from edge_router.router.parse import make_router

TIERS = ("q4_k_m", "q8_0")
BASELINES = ("low", "high", "tier:q8_0", "random:0.5", "entropy:0.8", "margin:0.2")
CONTEXT = StepContext(7, 50, 1500, 60, True, 1, 1, 0, 0.25, 0.9, 0.5)
HIDDEN = 32
# Normal logits of spread 2.5 under one peak: height of the peak by name.
PEAKS = {"certain": 45.0, "usual": 20.0, "uncertain": 11.0}


@dataclass(frozen=True)
class Figure:
    """Microseconds of one piece of work over `repeats` calls."""

    what: str
    median_us: float
    p99_us: float
    repeats: int


def measure(vocabulary: int, repeats: int) -> dict[str, Any]:
    """Figures of features and routers, and the machine they belong to.

    Raises UserError when the onnx package is missing.
    """
    extractor = FeatureExtractor(vocabulary)
    figures = []
    for name, peak in PEAKS.items():
        logits = _logits(vocabulary, peak)
        work = _bound(extractor.extract, logits, CONTEXT)
        figures.append(_timed(f"features, {name}", work, repeats))
    features = extractor.extract(_logits(vocabulary, PEAKS["usual"]), CONTEXT)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "router.onnx"
        write_network(path)
        routers: list[tuple[str, Router]] = [(spec, make_router(spec)) for spec in BASELINES]
        routers.append((f"onnx ({len(NAMES)}-{HIDDEN}-{HIDDEN}-1)", make_router(f"onnx:{path}")))
        for name, router in routers:
            router.reset(TIERS, 0)
            figures.append(_timed(name, _bound(router.decide, features), repeats))
    return {
        "vocabulary": vocabulary,
        "figures": [asdict(figure) for figure in figures],
        "machine": _machine(),
    }


def _bound(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: function(*arguments)


def _timed(what: str, work: Callable[[], object], repeats: int) -> Figure:
    for _ in range(max(1, repeats // 10)):  # warms up
        work()
    taken = np.empty(repeats)
    for i in range(repeats):
        started = time.perf_counter_ns()
        work()
        taken[i] = time.perf_counter_ns() - started
    median, p99 = np.percentile(taken / 1000.0, [50, 99])
    return Figure(what, round(float(median), 2), round(float(p99), 2), repeats)


def _logits(vocabulary: int, peak: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal(vocabulary) * 2.5).astype(np.float32)
    logits[vocabulary // 2] = peak
    return logits


def write_network(path: Path) -> None:
    """A network of two ReLU layers with random weights, as a router file.

    Raises UserError when the onnx package is missing.
    """
    try:
        # By name: a run must not need onnx, so no import statement in the package names it.
        onnx: Any = importlib.import_module("onnx")
    except ImportError:
        raise UserError(
            "measuring a network needs the onnx package; install it with: pip install onnx"
        ) from None
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


def _machine() -> dict[str, Any]:
    from edge_router.engine.machine import cpu_model, physical_cores

    return {
        "cpu": cpu_model(),
        "physical_cores": physical_cores(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": importlib.import_module("onnxruntime").__version__,
    }


def show(results: dict[str, Any], console: Console) -> None:
    """The figures as a table, with the machine below."""
    table = Table(title=f"A decision at a vocabulary of {results['vocabulary']} tokens")
    table.add_column("what")
    for heading in ("median µs", "p99 µs"):
        table.add_column(heading, justify="right")
    for figure in results["figures"]:
        table.add_row(figure["what"], f"{figure['median_us']:.1f}", f"{figure['p99_us']:.1f}")
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 2 with one sentence on bad input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vocabulary", type=int, default=151936, help="tokens")
    parser.add_argument("--repeats", type=int, default=2000, help="calls of each piece of work")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args(arguments)
    try:
        if options.vocabulary < 1 or options.repeats < 1:
            raise UserError("--vocabulary and --repeats must be at least 1")
        results = measure(options.vocabulary, options.repeats)
        show(results, Console())
        if options.json:
            write_json(options.json, results)
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
