"""`edge-router train router`: from a ladder to its router.onnx, stage by stage.

Each stage can be run alone and goes on where it stopped:

    collect   explore the games' trees                        rollouts.sqlite
    sft       supervise networks, try other labels            sft.json, sft-*.pt
    grpo      improve them on the trees                       grpo.json, grpo-*.pt
    export    choose one, calibrate its dial, write it        router.onnx, sft.onnx, export.json
    evaluate  compare with everything else                    evaluate.json, *.png

On chats instead of games, `prompts` has the stages.

All choices are made on the "select" games; the "test" games and the official
ones are only played when all is settled.

The command line of the library loads this module by name, because PyTorch is
not part of a run's installation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_router.engine.gguf_file import read_header
from edge_router.engine.tier import KvMode
from edge_router.errors import UserError
from edge_router.files.whole import require_makeable
from edge_router.ladders.costs import find_profile
from edge_router.ladders.resolve import resolve
from edge_router.tasks.registry import find_task
from edge_router.training import JOBS, MAX_TOKENS, PROMPT_JOBS, STAGES
from edge_router.work.pool import Backend
from edge_router.work.progress import ShownProgress
from train.router.options import RunOptions
from train.router.prompts import commands as prompts
from train.router.prompts.lines import PROMPTS
from train.router.run import Run
from train.router.setting import LadderSetting
from train.router.stages import collect, evaluate, export, grpo, sft
from train.router.stages.evaluate import Comparison


@dataclass(frozen=True)
class TrainOptions:
    """The command's options, as Click names them."""

    model: str | None
    tiers: Sequence[str]
    task: str
    games: Path | None
    folder: Path
    stages: Sequence[str]
    kv: str | None  # None: as the ladder suggests
    more_kv: Sequence[str]
    train_games: int | None
    select_games: int | None
    test_games: int | None
    iterations: int | None
    cost: str | None
    profiles: Sequence[str]
    jobs: int | None
    dask: str | None
    seed: int
    official: bool | None
    prompts: Path | None = None
    max_tokens: int = MAX_TOKENS  # of an answer to a prompt


def run(options: TrainOptions) -> int:
    """Run the stages in their order and return the exit code."""
    require_makeable(options.folder)
    if options.task == PROMPTS:
        return prompts.run(_order(options))
    if options.prompts is not None:
        raise UserError(f"--prompts goes with --task {PROMPTS}")
    setting = _setting(options)
    comparison = Comparison(
        official=options.official is not False,
        kvs=tuple(str(KvMode.parse(mode)) for mode in options.more_kv),
        profiles=tuple((name, find_profile(name)) for name in options.profiles),
    )
    progress = ShownProgress()
    work = Run(options.folder, setting, _run_options(options), progress, progress.note)
    try:
        run_stages(work, options.stages, comparison)
    except KeyboardInterrupt:
        progress.note(f"interrupted; the same command goes on from {work.folder}")
        return 130
    finally:
        progress.close()
        work.close()
    return 0


def _order(options: TrainOptions) -> prompts.PromptOrder:
    """The options that a run on prompts takes. Raises UserError."""
    if options.prompts is None:
        raise UserError(
            f"--task {PROMPTS} wants a file of chats, one a line: --prompts chats.jsonl"
        )
    played = {
        "--games": options.games,
        "--train-games": options.train_games,
        "--select-games": options.select_games,
        "--test-games": options.test_games,
        "--official": options.official,
        "--iterations": options.iterations,
        "--cost": options.cost,
        "--profile": options.profiles,
        "--also-kv": options.more_kv,
    }
    for name, given in played.items():
        if given not in (None, (), []):
            raise UserError(f"{name} is for tasks that are played, and --task {PROMPTS} is not")
    return prompts.PromptOrder(
        prompts=options.prompts,
        model=options.model,
        tiers=options.tiers,
        folder=options.folder,
        stages=options.stages,
        kv=options.kv,
        max_tokens=options.max_tokens,
        backend=Backend(options.jobs or PROMPT_JOBS, options.dask),
        seed=options.seed,
    )


def _setting(options: TrainOptions) -> LadderSetting:
    """The ladder and the conditions to train for. Raises UserError."""
    find_task(options.task)
    ladder = resolve(options.model, options.tiers)
    kv = str(KvMode.parse(options.kv or ladder.kv))
    setting = LadderSetting(ladder.tiers, kv=kv, task=options.task, prompt=ladder.prompt)
    if len(setting.tiers) < 2:
        raise UserError("a ladder of one tier has nothing to route; give two tiers or more")
    for tier in setting.tiers:
        read_header(tier.path)
    return setting


def _run_options(options: TrainOptions) -> RunOptions:
    default, seed = RunOptions(), options.seed
    iterations = options.iterations or default.grpo.iterations
    return RunOptions(
        train_games=options.train_games or default.train_games,
        select_games=options.select_games or default.select_games,
        test_games=options.test_games or default.test_games,
        folder=options.games,
        profile=None if options.cost is None else find_profile(options.cost),
        backend=Backend(options.jobs or JOBS, options.dask),
        plan=replace(default.plan, seed=seed),
        sft=replace(default.sft, seed=seed),
        grpo=replace(default.grpo, seed=seed, iterations=iterations),
    )


# -- the stages ----------------------------------------------------------------------------------


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
