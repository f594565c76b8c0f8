"""What each precision costs here: speed, loading, memory, handoff, decisions, energy.

llama-bench's conventions: `-p` tokens are prefilled and `-n` tokens decoded, each from an empty
context, a warm-up that is not counted and `-r` repeats; mean and standard deviation. What is
compared is taken in turn within one run, and ratios are medians of the ratios round by round.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edge_router.bench.decisions import decision_figures
from edge_router.bench.loops import LOOPS, PROMPT_TOKENS, hold, loop_speeds, ordinary_text
from edge_router.bench.shapes import find_subject
from edge_router.bench.timing import EnergyMeter, Sample, in_turn, seconds
from edge_router.engine.ladder import Ladder, Tier, TierSpec
from edge_router.engine.llama import copy_span, raw_decode
from edge_router.engine.loading import trained_context
from edge_router.engine.machine import physical_cores
from edge_router.errors import UserError
from edge_router.results.file import results
from edge_router.results.machine import available_bytes, resident_bytes
from edge_router.results.outputs import Outputs
from edge_router.screen.printable import say
from edge_router.work.progress import Progress, ShownProgress

SPANS: Final = (32, 128, 512, 2048)
Tables = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class SpeedOptions:
    """How much is measured, in tokens and repeats."""

    prefill: int = 512
    decode: int = 128
    repeats: int = 5
    spans: Sequence[int] | None = None  # handed over; None: the usual ones that fit
    threads: int | None = None
    sweep: Sequence[int] = ()  # numbers of threads to compare, instead of all else
    decisions: int = 2000  # calls of each router

    @property
    def alone(self) -> int:
        """Tokens of the context in which a tier is measured alone."""
        return max(self.prefill, self.decode + 1 + PROMPT_TOKENS, 2 * PROMPT_TOKENS)

    def spans_within(self, context: int) -> Sequence[int]:
        """The spans asked for, or those of the usual ones that so many tokens of context hold."""
        if self.spans is not None:
            return self.spans
        return [span for span in SPANS if PROMPT_TOKENS + span <= context]

    @property
    def swept(self) -> int:
        """Tokens of the context in which numbers of threads are compared."""
        return max(self.prefill, self.decode + 1)

    @property
    def longest(self) -> int:
        """The longest context that will be asked for."""
        if self.sweep:
            return self.swept
        return max(self.alone, PROMPT_TOKENS + max(self.spans or (0,)))


def measure_speed(specs: Sequence[TierSpec], options: SpeedOptions, progress: Progress) -> Tables:
    """All tables of `bench speed`. Raises UserError when memory does not suffice."""
    _require_memory(specs)
    tables: Tables = {"tiers": [], "loops": [], "handoff": [], "decisions": []}
    context = min(trained_context(spec) for spec in specs)
    spans = options.spans_within(context) if len(specs) > 1 else ()
    step = progress("tiers, handoffs, decisions", len(specs) + len(spans) + 1)
    for spec in specs:
        tier_row, loop_row = _one_tier(spec, options)
        step()
        tables["tiers"].append(tier_row)
        tables["loops"].append(loop_row)
    n_ctx = PROMPT_TOKENS + max(1, *spans)
    with Ladder.load(specs, n_ctx=n_ctx, n_threads=options.threads) as ladder:
        for span in spans:
            tables["handoff"].append(_handoff(ladder, span, options.repeats))
            step()
        tables["decisions"] = decision_figures(ladder.vocab.n_vocab, options.decisions)
        step()
    return tables


def measure_threads(specs: Sequence[TierSpec], options: SpeedOptions, progress: Progress) -> Tables:
    """Prefill and decode of each tier for each number of threads of `options.sweep`.

    Raises UserError when memory does not suffice.
    """
    _require_memory(specs)
    step = progress("tiers and threads", len(specs) * len(options.sweep))
    rows = []
    for spec in specs:
        for threads in options.sweep:
            with Ladder.load([spec], n_ctx=options.swept, n_threads=threads) as ladder:
                prefill, decode = _both_speeds(ladder, options)
            row = {"tier": spec.name, "threads": threads}
            rows.append({**row, "prefill": prefill.plain(), "decode": decode.plain()})
            step()
    return {"threads": rows}


def _both_speeds(ladder: Ladder, options: SpeedOptions) -> tuple[Sample, Sample]:
    """Tokens a second of prefill and of decode, taken in turn."""
    tier, text = ladder.tiers[0], ordinary_text(ladder, options.prefill)
    prefill, decode = in_turn(
        [lambda: _prefill_speed(tier, text), lambda: _decode_speed(tier, options.decode)],
        options.repeats,
    )
    return prefill, decode


def _require_memory(specs: Sequence[TierSpec]) -> None:
    """The ladder at once, or one tier twice (llama-cpp-python loads its own)."""
    sizes = [spec.path.stat().st_size for spec in specs if spec.path.is_file()]
    needed, there = max(sum(sizes), 2 * max(sizes, default=0)), available_bytes()
    if needed > there:
        raise UserError(
            f"these tiers need {needed / 1e9:.1f} GB of memory and {there / 1e9:.1f} GB are free;"
            " measure fewer tiers or a smaller model"
        )


# -- one tier alone -----------------------------------------------------------------------------


def _one_tier(spec: TierSpec, options: SpeedOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    before = resident_bytes()
    started = time.perf_counter()
    with Ladder.load([spec], n_ctx=options.alone, n_threads=options.threads) as ladder:
        loaded = time.perf_counter() - started
        tier, text = ladder.tiers[0], ordinary_text(ladder, options.prefill)
        prefill, decode = _both_speeds(ladder, options)
        row = {
            "tier": spec.name,
            "file": spec.path.name,
            "size_bytes": tier.size_bytes,
            "load_s": loaded,
            "resident_bytes": max(0, resident_bytes() - before),
            "prefill_tokens": options.prefill,
            "prefill": prefill.plain(),
            "decode_tokens": options.decode,
            "decode": decode.plain(),
            **_energy(tier, text, options.decode),
        }
        loops = loop_speeds(ladder, options.decode, options.repeats)
    return row, _loop_row(spec.name, options.decode, loops)


def _prefill_speed(tier: Tier, text: list[int]) -> float:
    """Tokens a second of reading `text` into an empty context."""
    tier.truncate(0)
    return len(text) / seconds(lambda: _read(tier, text))


def _decode_speed(tier: Tier, tokens: int) -> float:
    """Tokens a second of bare decoding from an empty context."""
    tier.truncate(0)
    tier.context.truncate(0)
    speed = tokens / raw_decode(tier.context, [1] * tokens)
    tier.context.truncate(0)
    return speed


def _energy(tier: Tier, text: list[int], tokens: int) -> dict[str, float | None]:
    """Joules a token of the whole processor, None where it does not tell."""
    meter = EnergyMeter()
    if not meter.available:
        return {"prefill_j": None, "decode_j": None}
    meter.start()
    _prefill_speed(tier, text)
    prefill = meter.joules()
    meter.start()
    _decode_speed(tier, tokens)
    decode = meter.joules()
    return {
        "prefill_j": None if prefill is None else prefill / len(text),
        "decode_j": None if decode is None else decode / tokens,
    }


def _loop_row(tier: str, tokens: int, loops: dict[str, Sample]) -> dict[str, Any]:
    ours = loops["ours"]
    return {
        "tier": tier,
        "tokens": tokens,
        **{name: loops[name].plain() if name in loops else None for name in LOOPS},
        "ratio": {name: ours.ratio(taken) for name, taken in loops.items() if name != "ours"},
    }


# -- the ladder -----------------------------------------------------------------------------------


def _handoff(ladder: Ladder, span: int, repeats: int) -> dict[str, Any]:
    """Copying a span's KV from the low to the high tier against computing it there."""
    low, high = ladder.tiers[0], ladder.tiers[-1]
    text = ordinary_text(ladder, PROMPT_TOKENS + span)
    start, end = PROMPT_TOKENS, PROMPT_TOKENS + span
    ladder.clear()
    low.decode(text)

    def copy() -> float:
        hold(high, text[:start])
        return 1000 * seconds(lambda: copy_span(low.context, high.context, start, end))

    def compute(tier: Tier) -> float:
        hold(tier, text[:start])
        return 1000 * seconds(lambda: _read(tier, text[start:]))

    copied, on_high, on_low = in_turn([copy, lambda: compute(high), lambda: compute(low)], repeats)
    return {
        "tokens": span,
        "from": low.name,
        "to": high.name,
        "handoff_ms": copied.plain(),
        "prefill_ms": on_high.plain(),
        "speedup": on_high.ratio(copied),
        "low_prefill_ms": on_low.plain(),
    }


def _read(tier: Tier, tokens: list[int]) -> None:
    tier.context.decode(tokens, tier.context.n_past)
    tier.context.logits()  # waits for the end


# -- the command ---------------------------------------------------------------------------------


def run_speed(
    model: str | None,
    tiers: Sequence[str],
    shape: str | None,
    precisions: str | None,
    options: SpeedOptions,
    outputs: Outputs,
) -> int:
    """Measure, show, write; returns the exit code."""
    outputs.check()
    subject = find_subject(
        *(model, tiers, shape, precisions),
        threads=options.threads,
        context=options.longest,
        tell=tell,
    )
    threads = options.threads or physical_cores()  # fixed: what others do must not change it
    settings: dict[str, Any] = {
        "model": subject.name,
        "tiers": {spec.name: spec.path.name for spec in subject.tiers},
        "repeats": options.repeats,
        "random_weights": not subject.fingerprint,
    }
    options = replace(options, threads=threads)
    kind, measure = ("threads", measure_threads) if options.sweep else ("speed", measure_speed)
    threads = max(options.sweep, default=threads)
    settings |= {"prefill": options.prefill, "decode": options.decode}
    data = results(kind, settings, {}, threads=threads)  # the load before the measurement
    with ShownProgress() as progress:
        data["tables"] = measure(subject.tiers, options, progress)
    outputs.write(data)
    return 0


def tell(text: str) -> None:
    """What is being done, for people who wait."""
    say(text, err=True)
