"""Measure what each tier costs on this machine, and say which tiers are worth having.

Every tier prefills spans of several lengths, decodes tokens and, but for the low one, verifies
drafts of several lengths, after a short and after a long context; all of it is taken in turn. The
medians are the profile (`ladders.costs`). A handoff is a
line through its medians, fitted by relative errors, so that a short span counts as much as a
long one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import numpy as np

from edge_router.bench.doubt import measure_scores
from edge_router.bench.loops import hold, ordinary_text
from edge_router.bench.shapes import find_subject
from edge_router.bench.speed import tell
from edge_router.bench.timing import in_turn, seconds
from edge_router.engine.ladder import Ladder, Tier, default_context
from edge_router.engine.llama import copy_span
from edge_router.errors import UserError
from edge_router.ladders.costs import CostProfile, StepTokens, TierCost, save_profile
from edge_router.ladders.ladder_file import LadderFile
from edge_router.ladders.resolve import resolve
from edge_router.ladders.scores import are_kept
from edge_router.results.file import results
from edge_router.results.machine import machine_details
from edge_router.results.outputs import Outputs
from edge_router.work.progress import Progress, ShownProgress, silent

NEAR: Final = 64  # tokens of the short context
TYPICAL: Final = StepTokens(prefill=40, decode=12, prompt_tokens=400)  # a step of a household game
SLOWER: Final = 0.03  # a tier that is less than this much faster than a better one is not worth it
NOISY: Final = 0.25  # relative standard deviation above which a figure is not to be trusted


@dataclass(frozen=True)
class CalibrationOptions:
    """How much is measured; `far` is the long context in tokens."""

    spans: Sequence[int] = (1, 8, 32, 64, 128)
    drafts: Sequence[int] = (4, 8, 16, 32, 64)
    decode: int = 16
    far: int = 1024
    repeats: int = 5
    threads: int | None = None  # None: their number follows the machine


@dataclass(frozen=True)
class Calibration:
    """A profile, and the largest relative standard deviation behind it, per tier."""

    profile: CostProfile
    noise: dict[str, float]


def calibrate(
    ladder: Ladder,
    model: str,
    fingerprint: str,
    options: CalibrationOptions,
    progress: Progress = silent,
) -> Calibration:
    """Measure a loaded ladder; its context must hold `far` and the longest span."""
    costs, noise = [], {}
    step = progress("tiers and handoff", len(ladder.tiers) + 1)
    for tier in ladder.tiers:
        cost, noise[tier.name] = _tier_cost(ladder, tier, options)
        costs.append(cost)
        step()
    call, token = (0.0, 0.0)
    if len(ladder.tiers) > 1:
        call, token = _handoff_cost(ladder, options)
    step()
    threads = options.threads or 0
    profile = CostProfile(
        *(model, fingerprint, tuple(costs), call, token, threads),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine_details(threads),
    )
    return Calibration(profile, noise)


def _tier_cost(ladder: Ladder, tier: Tier, options: CalibrationOptions) -> tuple[TierCost, float]:
    """The tier's costs and the largest relative standard deviation behind them."""
    depths, spans = tuple(dict.fromkeys((NEAR, options.far))), tuple(options.spans)
    drafts = tuple(options.drafts) if tier is not ladder.tiers[0] else ()
    text = ordinary_text(ladder, max(depths) + max(*spans, *options.drafts))

    def read(depth: int, span: int) -> float:
        hold(tier, text[:depth])
        return seconds(lambda: _read(tier, text[depth : depth + span]))

    def verify(depth: int, draft: int) -> float:
        hold(tier, text[:depth])
        return seconds(lambda: _verify(tier, text[depth : depth + draft]))

    def write(depth: int) -> float:
        hold(tier, text[:depth])
        return seconds(lambda: _write(tier, options.decode)) / options.decode

    work: list[Callable[[], float]] = []
    for depth in depths:
        work += [partial(read, depth, span) for span in spans]
        work += [partial(verify, depth, draft) for draft in drafts]
        work.append(partial(write, depth))
    taken = in_turn(work, options.repeats)
    tier.context.truncate(0)
    width = len(work) // len(depths)
    by_depth = [[s.median for s in taken[i * width : (i + 1) * width]] for i in range(len(depths))]
    cost = TierCost(
        *(tier.name, tier.size_bytes, spans, depths),
        prefill_s=tuple(tuple(row[: len(spans)]) for row in by_depth),
        decode_s=tuple(row[-1] for row in by_depth),
        drafts=drafts,
        verify_s=tuple(tuple(row[len(spans) : -1]) for row in by_depth) if drafts else (),
    )
    return cost, max(s.sd / s.mean for s in taken)


def _handoff_cost(ladder: Ladder, options: CalibrationOptions) -> tuple[float, float]:
    low, high = ladder.tiers[0].context, ladder.tiers[-1].context
    text = ordinary_text(ladder, NEAR + max(options.spans))
    low.decode(text, 0)

    def copy(span: int) -> float:
        hold(ladder.tiers[-1], text[:NEAR])
        return seconds(lambda: copy_span(low, high, NEAR, NEAR + span))

    copied = in_turn([partial(copy, span) for span in options.spans], options.repeats)
    low.truncate(0)
    high.truncate(0)
    return line(options.spans, [s.median for s in copied])


def line(spans: Sequence[int], times: Sequence[float]) -> tuple[float, float]:
    """(seconds a call, seconds a token) with least relative squares, neither below 0."""
    x, y = np.asarray(spans, float), np.asarray(times, float)
    call, token = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones(len(y)), rcond=None)[0]
    if call < 0:
        call, token = 0.0, np.sum(x / y) / np.sum((x / y) ** 2)
    if token < 0:
        call, token = np.sum(1 / y) / np.sum(1 / y**2), 0.0
    return float(call), float(token)


def _read(tier: Tier, tokens: list[int]) -> None:
    tier.context.decode(tokens, tier.context.n_past)
    tier.context.logits()  # waits for the end


def _verify(tier: Tier, tokens: list[int]) -> None:
    """In batches of as many tokens as the context has room for rows of logits, as a ladder does."""
    rows = tier.context.max_rows
    for start in range(0, len(tokens), rows):
        tier.context.decode_rows(tokens[start : start + rows], tier.context.n_past)


def _write(tier: Tier, tokens: int) -> None:
    for _ in range(tokens):
        _read(tier, [1])


# -- which tiers are worth having -----------------------------------------------------------------


def alone_seconds(profile: CostProfile, name: str) -> float:
    """A typical step of a tier that plays alone."""
    return profile.step_seconds(name, TYPICAL, reader=name)


def verdict(profile: CostProfile) -> str:
    """One sentence: the tiers worth having here, and why not the others.

    The high tier always is. A lower one is when a typical step on it takes less time than on
    every higher tier that is worth having.
    """
    worth = [profile.names[-1]]
    reasons = []
    for name in reversed(profile.names[:-1]):
        rival = min(worth, key=lambda n: alone_seconds(profile, n))
        if alone_seconds(profile, name) < (1 - SLOWER) * alone_seconds(profile, rival):
            worth.insert(0, name)
        else:
            reasons.append(_not_worth(profile, name, rival))
    kept = f"worth having on this processor: {', '.join(worth)}"
    return "; ".join([kept, *reversed(reasons)]) + "."


def _not_worth(profile: CostProfile, name: str, rival: str) -> str:
    this, other = profile.tier(name), profile.tier(rival)
    size = "smaller" if this.size_bytes < other.size_bytes else "no smaller"
    link = "but" if size == "smaller" else "and"
    took = [1000 * alone_seconds(profile, n) for n in (name, rival)]
    return (
        f"{name} is {size} {link} not faster than {rival}"
        f" (a typical step takes {took[0]:.1f} against {took[1]:.1f} ms)"
    )


def warnings_of(calibration: Calibration) -> list[str]:
    """Where the profile is to be taken with care."""
    return [
        f"{name}: repeats differ by {100 * noise:.0f} % (standard deviation); calibrate again on an"
        " idle machine"
        for name, noise in calibration.noise.items()
        if noise > NOISY
    ]


def rows(profile: CostProfile) -> list[dict[str, Any]]:
    """The tiers as rows of a results file."""
    return [{**asdict(t), "step_s": alone_seconds(profile, t.name)} for t in profile.tiers]


# -- the command ---------------------------------------------------------------------------------


def run_calibrate(
    model: str | None,
    tiers: Sequence[str],
    shape: str | None,
    precisions: str | None,
    options: CalibrationOptions,
    outputs: Outputs,
) -> int:
    """Measure, store, show; returns the exit code."""
    outputs.check()
    subject = find_subject(model, tiers, shape, precisions, threads=options.threads, tell=tell)
    n_ctx = default_context(subject.tiers)
    longest = max(options.decode, *options.spans, *options.drafts)
    options = replace(options, far=min(options.far, n_ctx - longest))
    with (
        Ladder.load(subject.tiers, n_ctx=n_ctx, n_threads=options.threads) as ladder,
        ShownProgress() as progress,
    ):
        found = calibrate(ladder, subject.name, subject.fingerprint, options, progress)
        if shape is None:  # random weights are unsure of everything
            _measure_scores(ladder, resolve(model, tiers), progress)
    settings = {
        "warnings": warnings_of(found),
        "noise": found.noise,
        "repeats": options.repeats,
    }
    keep_and_show(found.profile, settings, outputs)
    return 0


def keep_and_show(profile: CostProfile, settings: dict[str, Any], outputs: Outputs) -> None:
    """Store a profile, and write and show its tables. Raises `UserError`."""
    tell(f"stored in {save_profile(profile)}")
    handoff = {
        "handoff_call_s": profile.handoff_call_s,
        "handoff_token_s": profile.handoff_token_s,
    }
    data = results(
        "calibration",
        {"model": profile.model, "verdict": verdict(profile), **settings},
        {"tiers": rows(profile), "ladder": [handoff]},
        threads=profile.threads,
    )
    data["machine"] = profile.machine  # its load is that of the measurement
    outputs.write(data)


def _measure_scores(ladder: Ladder, described: LadderFile, progress: Progress) -> None:
    """For budgets; a ladder that cannot play, in too short a context say, goes without."""
    if len(ladder.tiers) < 2 or not are_kept():
        return
    try:
        measure_scores(ladder, described, progress)
    except UserError as error:
        tell(f"how unsure the low tier is was not measured: {error}")
