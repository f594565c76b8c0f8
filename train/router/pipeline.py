"""The stages of a training run in their order; each can be run alone and goes on where it stopped.

    collect   explore the games' trees                        rollouts.sqlite
    sft       supervise networks, try other labels            sft.json, sft-*.pt
    grpo      improve them on the trees                       grpo.json, grpo-*.pt
    export    choose one, calibrate its dial, write it        router.onnx, sft.onnx, export.json
    evaluate  compare with everything else                    evaluate.json, *.png

All choices are made on the "select" games; the "test" games and the official
ones are only played when all is settled.
"""

from __future__ import annotations

from collections.abc import Sequence

from train.router.run import Run
from train.router.stages import collect, evaluate, export, grpo, sft
from train.router.stages.evaluate import Comparison

STAGES = ("collect", "sft", "grpo", "export", "evaluate")


def run_stages(run: Run, stages: Sequence[str], comparison: Comparison) -> None:
    """Run the named stages, all when none is named, in their order. Raises UserError."""
    for stage in STAGES:
        if not stages or stage in stages:
            run.say(f"== {stage}")
            run_stage(run, stage, comparison)


def run_stage(run: Run, stage: str, comparison: Comparison) -> None:
    """Run one stage on what the stages before it left in the run's folder."""
    if stage == "collect":
        collect.collect(run)
    elif stage == "sft":
        sft.supervise(run)
    elif stage == "grpo":
        grpo.improve(run)
    elif stage == "export":
        export.export(run)
    else:
        evaluate.evaluate(run, comparison)
