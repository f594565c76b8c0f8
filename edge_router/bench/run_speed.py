"""`edge-router bench speed`: find or make the ladder, measure it, show the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edge_router.bench.shapes import find_subject
from edge_router.bench.speed import SpeedOptions, measure_speed, measure_threads
from edge_router.engine.machine import physical_cores
from edge_router.results.file import results
from edge_router.results.outputs import Outputs
from edge_router.screen.printable import say
from edge_router.work.progress import ShownProgress


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
    subject = find_subject(model, tiers, shape, precisions, threads=options.threads, tell=tell)
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
