"""What one decision of a trained router takes: features and network together, one thread.

    python -m train.router.decision_time --router models/household/router.onnx

Microseconds at a vocabulary of 151,936 tokens, for three shapes of next-token
distribution (see `edge_router.bench.decisions`). A router that decides at the
draft also reads how sure the cheapest tier was of each token it wrote; that is
told by itself, because it is spent while the draft is decoded. Run it on an
idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_router.bench.decisions import CONTEXT, PEAKS
from edge_router.engine.machine import cpu_model
from edge_router.errors import UserError
from edge_router.router.base import Draft, TokenStats, decide_at
from edge_router.router.features import FeatureExtractor, with_draft
from edge_router.router.onnx_router import OnnxRouter

DRAFT = Draft(tuple(TokenStats(0.99, 0.05, 0.98) for _ in range(9)), 4, 0, 0, 0)


def measure(router: OnnxRouter, vocabulary: int, calls: int) -> dict[str, tuple[float, float]]:
    """(median, 99th percentile) in microseconds of each piece of work."""
    extractor = FeatureExtractor(vocabulary)
    at_draft = decide_at(router) == "draft"
    found = {}
    for name, peak in PEAKS.items():
        rng = np.random.default_rng(0)
        logits = (rng.standard_normal(vocabulary) * 2.5).astype(np.float32)
        logits[vocabulary // 2] = peak

        def decision(logits: np.ndarray = logits) -> None:
            features = extractor.extract(logits, CONTEXT)
            router.decide(with_draft(features, DRAFT) if at_draft else features)

        found[f"features and network, {name}"] = _timed(decision, calls)
        if at_draft:
            found[f"a token of the draft, {name}"] = _timed(
                lambda logits=logits: extractor.token(logits, 5),  # type: ignore[misc]
                calls,
            )
    return found


def _timed(work: Callable[[], object], calls: int) -> tuple[float, float]:
    for _ in range(calls // 10):
        work()
    taken = np.empty(calls)
    for i in range(calls):
        started = time.perf_counter_ns()
        work()
        taken[i] = time.perf_counter_ns() - started
    median, p99 = np.percentile(taken / 1000.0, [50, 99])
    return round(float(median), 1), round(float(p99), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--router", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, default=151936, help="tokens")
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    try:
        router = OnnxRouter(options.router)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    tiers = json.loads(router.metadata.get("edge_router.tiers", '["low", "high"]'))
    router.reset(tuple(tiers), 0)
    for what, (median, p99) in measure(router, options.vocabulary, options.calls).items():
        print(f"{what:38} median {median:6.1f} us   p99 {p99:6.1f} us")
    print(f"{cpu_model()}, load average {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
