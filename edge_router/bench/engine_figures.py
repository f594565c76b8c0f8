"""Measure what the engine adds to llama.cpp, and what a handoff saves, on this machine.

Two questions, answered in one run with the things compared taken in turn, so
that a machine that grows slower or faster half-way does not decide:

- decode: tokens a second of our loop (sample, detokenise, stop strings) against
  bare `llama_decode` calls as llama-bench makes them, on the same GGUF;
- handoff: milliseconds to copy the KV of a span to the dearest tier against
  letting that tier prefill the span.

Figures are medians over the repeats, ratios are medians of ratios. Run it on an
idle machine; the load average is printed with the results. Random weights at a
real shape are written once (0.6B: a minute and 1.1 GB) and kept.

    python -m edge_router.bench.engine_figures --shape qwen3-0.6b --json figures.json
    python -m edge_router.bench.engine_figures --tier q4_k_m=A.gguf --tier q8_0=B.gguf
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from edge_router.bench.results import write_json
from edge_router.bench.synthetic import SHAPES, write_ladder
from edge_router.engine.ladder import Ladder, Tier, TierSpec
from edge_router.engine.llama import LlamaModel, copy_span, raw_decode, system_info
from edge_router.engine.machine import cpu_model, physical_cores
from edge_router.engine.sampling import Sampler
from edge_router.errors import UserError

PROMPT_TOKENS = 64
STOPS = ("\nObservation:",)


@dataclass(frozen=True)
class DecodeFigure:
    """Tokens a second of one tier; `ratio` is ours over the bare loop."""

    tier: str
    tokens: int
    ours: float
    raw: float
    ratio: float


@dataclass(frozen=True)
class HandoffFigure:
    """Milliseconds for a span of tokens; `speedup` is prefill over handoff."""

    tokens: int
    handoff_ms: float
    prefill_ms: float
    speedup: float
    cheap_prefill_ms: float  # the cheapest tier reading the same span


class Endless(Sampler):
    """Greedy, but never ends: an end token is replaced, after the same work."""

    def __init__(self, model: LlamaModel) -> None:
        super().__init__()
        self._model = model

    def sample(self, logits: NDArray[np.float32], allowed: NDArray[np.intp] | None = None) -> int:
        token = super().sample(logits, allowed)
        return 0 if self._model.is_eog(token) else token


def decode_figure(ladder: Ladder, tokens: int, repeats: int) -> DecodeFigure:
    """Our loop against the bare one on a ladder of one tier, in turn, after the same prompt."""
    tier, prompt = ladder.tiers[0], _text(ladder, PROMPT_TOKENS)
    ours, raw = [], []
    for _ in range(repeats + 1):  # the first round warms up
        ladder.prefill(prompt)
        step = ladder.generate(0, Endless(tier.model), max_tokens=tokens + 1, stop=STOPS)
        ours.append(step.decode_tokens / (step.decode_ms / 1000.0))
        ladder.prefill(prompt)
        raw.append(tokens / raw_decode(tier.context, step.tokens[:tokens]))
    ours, raw = ours[1:], raw[1:]
    ratios = [a / b for a, b in zip(ours, raw, strict=True)]
    median = statistics.median
    return DecodeFigure(tier.name, tokens, median(ours), median(raw), median(ratios))


def handoff_figure(ladder: Ladder, span: int, repeats: int) -> HandoffFigure:
    """Copying a span from the cheapest to the dearest tier against computing it there."""
    cheap, dear = ladder.tiers[0], ladder.tiers[-1]
    text = _text(ladder, PROMPT_TOKENS + span)
    start, end = PROMPT_TOKENS, PROMPT_TOKENS + span
    ladder.prefill(text)
    copied, computed, cheaply = [], [], []
    for _ in range(repeats + 1):
        _reset(dear, text[:start])
        copied.append(_ms(lambda: copy_span(cheap.context, dear.context, start, end)))
        _reset(dear, text[:start])
        computed.append(_ms(lambda: _read(dear, text[start:])))
        _reset(cheap, text[:start])
        cheaply.append(_ms(lambda: _read(cheap, text[start:])))
    ratios = [b / a for a, b in zip(copied[1:], computed[1:], strict=True)]
    median = statistics.median
    return HandoffFigure(
        span, median(copied[1:]), median(computed[1:]), median(ratios), median(cheaply[1:])
    )


def _text(ladder: Ladder, tokens: int) -> list[int]:
    """That many tokens of an ordinary text."""
    ids = ladder.vocab.tokenize("You see a countertop 2, a mug 1, and a fridge 1. ")
    return (ids * (tokens // len(ids) + 1))[:tokens]


def _reset(tier: Tier, text: list[int]) -> None:
    """Let the tier hold exactly `text`."""
    if tier.context.n_past < len(text):
        tier.context.decode(text, 0)
    tier.context.truncate(len(text))


def _read(tier: Tier, tokens: list[int]) -> None:
    tier.context.decode(tokens, tier.context.n_past)
    tier.context.logits()  # waits for the end


def _ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000.0 * (time.perf_counter() - started)


def measure(
    specs: Sequence[TierSpec],
    *,
    tokens: int,
    spans: Sequence[int],
    repeats: int,
    threads: int | None,
) -> dict[str, Any]:
    """All figures as plain data, with the machine they were taken on."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    n_ctx = PROMPT_TOKENS + max(*spans, tokens + 1, PROMPT_TOKENS)
    decode = []
    for spec in specs:
        with Ladder.load([spec], n_ctx=n_ctx, n_threads=threads) as alone:
            decode.append(asdict(decode_figure(alone, tokens, repeats)))
    handoff = []
    if len(specs) > 1:
        with Ladder.load(specs, n_ctx=n_ctx, n_threads=threads) as ladder:
            handoff = [asdict(handoff_figure(ladder, span, repeats)) for span in spans]
    return {
        "machine": {
            "cpu": cpu_model(),
            "cores": physical_cores(),
            "threads": threads or physical_cores(),
            "load_before": load,
            "llama.cpp": system_info(),
        },
        "tiers": {s.name: s.path.name for s in specs},
        "repeats": repeats,
        "decode": decode,
        "handoff": handoff,
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as tables."""
    machine = figures["machine"]
    console.print(f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores")
    console.print(f"load before: {machine['load_before']}, repeats: {figures['repeats']}")
    console.print(machine["llama.cpp"], style="dim")
    decode = Table("tier", "ours tok/s", "bare tok/s", "ours / bare", title="Decode")
    for row in figures["decode"]:
        decode.add_row(
            row["tier"], f"{row['ours']:.1f}", f"{row['raw']:.1f}", f"{row['ratio']:.3f}"
        )
    console.print(decode)
    if not figures["handoff"]:
        return
    first, *_, last = figures["tiers"]
    handoff = Table(
        "tokens",
        "handoff ms",
        f"prefill on {last} ms",
        "speed-up",
        f"prefill on {first} ms",
        title=f"Handoff {first} -> {last}",
    )
    for row in figures["handoff"]:
        cells = (row["handoff_ms"], row["prefill_ms"], row["speedup"], row["cheap_prefill_ms"])
        handoff.add_row(str(row["tokens"]), *(f"{c:.1f}" for c in cells))
    console.print(handoff)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--shape", choices=list(SHAPES), default="qwen3-0.6b", help="random weights of this shape")
    add("--model-dir", type=Path, help="where the random models are kept")
    add(
        "--tier",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="measure these, cheapest first",
    )
    add("--tokens", type=int, default=64, help="tokens to decode in a round")
    add("--spans", type=int, nargs="+", default=[32, 128, 512], help="tokens to hand over")
    add("--repeats", type=int, default=7)
    add("--threads", type=int, help="default: every physical core")
    add("--json", type=Path, help="write the figures to this file as well")
    return parser


def _specs(options: argparse.Namespace) -> list[TierSpec]:
    if options.tier:
        pairs = [text.partition("=") for text in options.tier]
        if not all(name and path for name, _, path in pairs):
            raise UserError("--tier wants NAME=PATH, for example q8_0=model.gguf")
        return [TierSpec(name, Path(path)) for name, _, path in pairs]
    folder = options.model_dir or Path(platformdirs.user_cache_dir("edge-router")) / "synthetic"
    paths = write_ladder(SHAPES[options.shape], folder, threads=options.threads)
    return [TierSpec(name, path) for name, path in paths.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 2 with one sentence on bad input."""
    options = _parser().parse_args(arguments)
    try:
        figures = measure(
            _specs(options),
            tokens=options.tokens,
            spans=options.spans,
            repeats=options.repeats,
            threads=options.threads,
        )
        show(figures, Console())
        if options.json:
            write_json(options.json, figures)
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
