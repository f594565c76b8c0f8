"""`edge-router doctor`, `calibrate` and `advise`: what this machine can do, and at which cost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from edge_router.cli.config import yields_to
from edge_router.cli.options import (
    LadderChoice,
    SubjectChoice,
    ladder_options,
    output_options,
    subject_options,
)
from edge_router.cli.types import COUNT, MODEL, REAL, THREADS, WORD

if TYPE_CHECKING:
    from edge_router.results.outputs import Outputs


@click.command()
@ladder_options()
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON on stdout.")
def doctor(ladder: LadderChoice, as_json: bool) -> None:
    """Look at build, machine, ladder and games, with advice for each problem.

    The exit code is 1 when something stands in the way of playing.
    """
    from edge_router.bench.doctor import run_doctor

    sys.exit(run_doctor(ladder.model, ladder.tiers, as_json=as_json))


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
        if subject.precisions is not None:
            raise click.UsageError("--precisions is for measuring, and --cores measures nothing")
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


@click.command()
@click.option(
    "--model",
    type=MODEL,
    callback=yields_to("shape"),
    help="A model that is here, by name or folder, for its dimensions.",
)
@click.option(
    "--shape",
    type=WORD,
    callback=yields_to("model"),
    metavar="NAME",
    help="The dimensions of this model: smollm2-135m, qwen3-0.6b, qwen3-1.7b, qwen3-4b, "
    "llama-3.2-1b.  [qwen3-0.6b]",
)
@click.option(
    "--precisions",
    type=WORD,
    help="What is measured, joined by commas.  [q8_0 to iq1_s, nine of them]",
)
@click.option("--threads", type=THREADS, help="CPU threads.  [physical cores]")
@click.option("-r", "--repeats", type=COUNT, default=3, show_default=True, help="Repeats.")
@click.option(
    "-p", "--reads", type=COUNT, default=64, show_default=True, help="Tokens that a step prefills."
)
@click.option(
    "-n", "--writes", type=COUNT, default=32, show_default=True, help="Tokens that a step decodes."
)
@click.option(
    "--escalated", type=REAL, default=0.2, show_default=True, help="Share of escalated steps."
)
@click.option(
    "--accepted",
    type=REAL,
    default=0.9,
    show_default=True,
    help="Probability that the high tier accepts the next token of a draft.",
)
@click.option(
    "--bandwidth",
    type=REAL,
    metavar="GB/S",
    help="Memory speed of another machine, for the prediction.  [measured]",
)
@output_options
def advise(
    model: str | None,
    shape: str | None,
    precisions: str | None,
    outputs: Outputs,
    **options: Any,
) -> None:
    """Say which two precisions to convert a model to on this machine.

    Measures what each precision costs here, on a few layers of the model's shape with
    weights of zeros, which take as long as any others, and needs no download. Says what
    a step would take on the low tier, on the high tier and routed, where the high tier
    verifies the low tier's draft, and predicts other numbers of cores. After Ctrl-C
    the same command goes on.

    \b
    edge-router advise
    edge-router advise --shape qwen3-1.7b --json advice.json
    """
    from edge_router.bench.advice import Assumptions
    from edge_router.bench.advise import AdviceOptions, run_advise
    from edge_router.errors import UserError

    for name in ("escalated", "accepted"):
        if not 0 <= options[name] <= 1:
            raise UserError(f"--{name} {options[name]:g}: a share lies between 0 and 1")
    if options["bandwidth"] is not None and options["bandwidth"] <= 0:
        raise UserError(f"--bandwidth {options['bandwidth']:g}: more than 0 GB/s are needed")
    names = ("reads", "writes", "escalated", "accepted")
    assumed = Assumptions(**{name: options.pop(name) for name in names})
    wanted = AdviceOptions(assumptions=assumed, **options)
    sys.exit(run_advise(model, shape, precisions, wanted, outputs))
