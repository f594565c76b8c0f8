"""`edge-router train router`: from a ladder to its router.onnx, stage by stage.

The command line of the library loads this module by name, because PyTorch is
not part of a run's installation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_router.engine.gguf_file import read_header
from edge_router.engine.tier import KvMode
from edge_router.errors import UserError
from edge_router.ladders.costs import find_profile
from edge_router.ladders.resolve import resolve
from edge_router.tasks.registry import find_task
from edge_router.work.progress import ShownProgress
from train.router.options import RunOptions
from train.router.pipeline import run_stages
from train.router.run import Run
from train.router.setting import LadderSetting
from train.router.stages.evaluate import Comparison


def run(
    *,
    model: str | None,
    tiers: Sequence[str],
    task: str,
    games: Path | None,
    folder: Path,
    stages: Sequence[str],
    kv: str,
    more_kv: Sequence[str],
    train_games: int,
    select_games: int,
    test_games: int,
    iterations: int | None,
    cost: str | None,
    profiles: Sequence[str],
    jobs: int,
    seed: int,
    official: bool,
) -> int:
    """Run the stages in their order and return the exit code."""
    find_task(task)
    ladder = resolve(model, tiers)
    setting = LadderSetting(ladder.tiers, kv=str(KvMode.parse(kv)), prompt=ladder.prompt)
    if len(setting.tiers) < 2:
        raise UserError("a ladder of one tier has nothing to route; give two tiers or more")
    for tier in setting.tiers:
        read_header(tier.path)
    options = _options(games, train_games, select_games, test_games, iterations, jobs, seed)
    options = replace(options, profile=None if cost is None else find_profile(cost))
    comparison = Comparison(
        official=official,
        kvs=tuple(str(KvMode.parse(mode)) for mode in more_kv),
        profiles=tuple((name, find_profile(name)) for name in profiles),
    )
    progress = ShownProgress()
    work = Run(folder, setting, options, progress, progress.note)
    try:
        run_stages(work, stages, comparison)
    except KeyboardInterrupt:
        progress.note(f"interrupted; the same command goes on from {work.folder}")
        return 130
    finally:
        progress.close()
        work.close()
    return 0


def _options(
    games: Path | None,
    train_games: int,
    select_games: int,
    test_games: int,
    iterations: int | None,
    jobs: int,
    seed: int,
) -> RunOptions:
    options = RunOptions(
        train_games=train_games,
        select_games=select_games,
        test_games=test_games,
        folder=games,
        jobs=jobs,
    )
    return replace(
        options,
        plan=replace(options.plan, seed=seed),
        sft=replace(options.sft, seed=seed),
        grpo=replace(
            options.grpo,
            seed=seed,
            iterations=options.grpo.iterations if iterations is None else iterations,
        ),
    )
