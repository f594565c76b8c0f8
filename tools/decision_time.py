"""What one decision of a trained router takes: features and network together, one thread.

    python -m tools.decision_time --router models/household/router.onnx

Microseconds at a vocabulary of 151,936 tokens, for three shapes of next-token
distribution (see `edge_router.bench.decisions`). A router that decides at the
draft reads how sure the low tier was of each token it wrote, and for the
first of them the same pass over the logits serves as the prompt's features; that
pass is printed by itself, because it is spent while the draft is decoded. So is the
comparing of the draft's words. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_router.agent.history import Said
from edge_router.bench.decisions import CONTEXT, PEAKS, peaked
from edge_router.bench.timing import microseconds
from edge_router.engine.machine import cpu_model
from edge_router.errors import UserError
from edge_router.router.features import Draft, extract, from_measure, with_draft
from edge_router.router.logits import LogitMeter, Measure, TokenStats
from edge_router.router.onnx_router import OnnxRouter
from edge_router.screen.printable import say
from edge_router.tasks.parse import Parsed

DRAFT = Draft(tuple(TokenStats(0.99, 0.05, 0.98) for _ in range(9)), 4, 0, 0, 0)
_LAST = "go to desk 1"
_STEP = Parsed("no cd on desk 1, so the shelf is next", "go to shelf 2")
_SAID = Said()
_SAID.add("You arrive at desk 1. On the desk 1, you see a pen 1, a mug 3, and a book 2.")

Logits = NDArray[np.float32]


def measure(router: OnnxRouter, vocabulary: int, calls: int) -> dict[str, tuple[float, float]]:
    """(median, 99th percentile) in microseconds of each piece of work."""
    meter = LogitMeter(vocabulary)
    at_draft = router.decide_at == "draft"
    found = {}
    for name, peak in PEAKS.items():
        logits = peaked(vocabulary, peak)
        if at_draft:
            work = partial(_at_the_draft, router, meter.measure(logits))
            token = partial(_a_token, meter, logits)
            found[f"a token of the draft, {name}"] = microseconds(token, calls)
        else:
            work = partial(_at_the_prompt, router, logits)
        found[f"features and network, {name}"] = microseconds(work, calls)
    if at_draft:
        found["comparing the draft's words"] = microseconds(
            partial(_SAID.compare, _STEP, _LAST), calls
        )
    return found


def _a_token(meter: LogitMeter, logits: Logits) -> None:
    meter.measure(logits).token(float(logits[5]))


def _at_the_prompt(router: OnnxRouter, logits: Logits) -> None:
    router.decide(extract(logits, CONTEXT))


def _at_the_draft(router: OnnxRouter, measure: Measure) -> None:
    router.decide(with_draft(from_measure(measure, CONTEXT), DRAFT))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--router", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, default=151936, help="tokens")
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    try:
        router = OnnxRouter(options.router)
    except UserError as error:
        say(str(error), err=True)
        return 2
    router.reset(router.file.tiers or ("low", "high"), 0)
    for what, (median, p99) in measure(router, options.vocabulary, options.calls).items():
        print(f"{what:38} median {median:6.1f} us   p99 {p99:6.1f} us")
    print(f"{cpu_model()}, load average {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
