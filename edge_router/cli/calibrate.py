"""`edge-router calibrate`: what each tier costs on this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from edge_router.cli.options import SubjectChoice, output_options, subject_options
from edge_router.cli.types import COUNT, REAL, THREADS

if TYPE_CHECKING:
    from edge_router.results.outputs import Outputs


@click.command()
@subject_options()
@click.option("--threads", type=THREADS, help="CPU threads.  [follows the machine]")
@click.option(
    "--cores",
    type=COUNT,
    metavar="N",
    help="Measure nothing: predict from the profile of this machine what N cores take.",
)
@click.option(
    "--bandwidth", type=REAL, metavar="GB/S", help="Memory speed of the machine with --cores."
)
@output_options
def calibrate(
    subject: SubjectChoice,
    outputs: Outputs,
    cores: int | None,
    bandwidth: float | None,
    **options: Any,
) -> None:
    """Measure what each tier costs here and keep it for routers and reports.

    Cost is seconds on this machine, not bits: seconds to read and to write a token
    on each tier and to hand a token over. Says which tiers are worth having. A
    profile is kept for each ladder; one of a --shape goes by its name, for
    bench policies --costs NAME. --cores and --bandwidth keep a second profile, of a
    machine that is not here, predicted from the one of this machine: computing is shared
    out among its cores, and no call is quicker than its memory gives all weights.

    \b
    edge-router calibrate
    edge-router calibrate --shape qwen3-1.7b --precisions iq1_s,q8_0
    edge-router calibrate --cores 32 --bandwidth 45
    """
    if (cores is None) != (bandwidth is None):
        raise click.UsageError("--cores and --bandwidth go together: give both, or none of them")
    if cores is not None and bandwidth is not None:
        from edge_router.bench.predict import run_predict

        sys.exit(
            run_predict(subject.model, subject.tiers, subject.shape, cores, bandwidth, outputs)
        )
    from edge_router.bench.calibrate import CalibrationOptions, run_calibrate

    wanted = CalibrationOptions(**options)
    model, tiers, shape, precisions = (
        subject.model,
        subject.tiers,
        subject.shape,
        subject.precisions,
    )
    sys.exit(run_calibrate(model, tiers, shape, precisions, wanted, outputs))
