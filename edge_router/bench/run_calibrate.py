"""`edge-router calibrate`: measure a ladder, store its profile, say which tiers pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edge_router.bench.calibrate import (
    CalibrationOptions,
    calibrate,
    rows,
    verdict,
    warnings_of,
)
from edge_router.bench.run_speed import tell
from edge_router.bench.shapes import find_subject
from edge_router.engine.ladder import Ladder, default_context
from edge_router.ladders.costs import save_profile
from edge_router.results.file import results
from edge_router.results.outputs import Outputs
from edge_router.work.progress import ShownProgress


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
    path = save_profile(found.profile)
    tell(f"stored in {path}")
    profile = found.profile
    settings: dict[str, Any] = {
        "model": subject.name,
        "verdict": verdict(profile),
        "warnings": warnings_of(found),
        "noise": found.noise,
        "repeats": options.repeats,
    }
    handoff = {
        "handoff_call_s": profile.handoff_call_s,
        "handoff_token_s": profile.handoff_token_s,
    }
    data = results(
        "calibration",
        settings,
        {"tiers": rows(profile), "ladder": [handoff]},
        threads=profile.threads,
    )
    data["machine"] = profile.machine  # its load is that of the measurement
    outputs.write(data)
    return 0
