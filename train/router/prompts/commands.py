"""`edge-router train router --task prompts`: from chats and a ladder to its router.onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_router.engine.gguf_file import read_header
from edge_router.engine.machine import physical_cores
from edge_router.engine.tier import KvMode
from edge_router.errors import UserError
from edge_router.ladders.resolve import resolve
from edge_router.work.pool import Backend
from edge_router.work.progress import ShownProgress
from train.router.explore import ExplorePlan
from train.router.options import RunOptions
from train.router.prompts import stages
from train.router.prompts.lines import PromptGame, read_prompts
from train.router.prompts.setting import PromptSetting, context_for
from train.router.run import Run, dealt

STAGES: Mapping[str, Callable[[Run], None]] = {
    "collect": stages.collect,
    "sft": stages.supervise,
    "export": stages.export,
    "evaluate": stages.evaluate,
}


@dataclass(frozen=True)
class PromptOrder:
    """What the user asked for, as the command's options have it."""

    prompts: Path
    model: str | None
    tiers: Sequence[str]
    folder: Path
    stages: Sequence[str]
    kv: str | None  # None: as the ladder suggests
    max_tokens: int
    backend: Backend
    seed: int


def run(order: PromptOrder) -> int:
    """Run the stages in their order and return the exit code. Raises UserError."""
    unknown = [stage for stage in order.stages if stage not in STAGES]
    if unknown:
        raise UserError(
            f"prompts have no stage {unknown[0]}, for there is nothing to win; their stages are "
            f"{', '.join(STAGES)}"
        )
    games = read_prompts(order.prompts)
    sets = dealt(games, f"{order.prompts} holds", "prompts")
    progress = ShownProgress()
    try:
        setting = _setting(order, games, progress)
        work = Run(order.folder, setting, _options(order), progress, progress.note, sets)
        try:
            _run_stages(work, order.stages)
        finally:
            work.close()
    except KeyboardInterrupt:
        progress.note(f"interrupted; the same command goes on from {order.folder}")
        return 130
    finally:
        progress.close()
    return 0


def _run_stages(work: Run, asked: Sequence[str]) -> None:
    for name, stage in STAGES.items():
        if not asked or name in asked:
            work.say(f"== {name}")
            stage(work)


def _setting(
    order: PromptOrder, games: Sequence[PromptGame], progress: ShownProgress
) -> PromptSetting:
    """The ladder, and a context that holds every prompt. Raises UserError."""
    ladder = resolve(order.model, order.tiers)
    if len(ladder.tiers) < 2:
        raise UserError("a ladder of one tier has nothing to route; give two tiers or more")
    for tier in ladder.tiers:
        read_header(tier.path)
    low = ladder.tiers[0].path
    return PromptSetting(
        ladder.tiers,
        kv=str(KvMode.parse(order.kv or ladder.kv)),
        threads=max(1, physical_cores() // order.backend.jobs),
        prompt=ladder.prompt,
        max_tokens=order.max_tokens,
        context=context_for(low, games, order.prompts, order.max_tokens, progress),
    )


def _options(order: PromptOrder) -> RunOptions:
    default = RunOptions()
    return RunOptions(
        backend=order.backend,
        plan=ExplorePlan(random=(), search=0),
        sft=replace(default.sft, seed=order.seed),
    )
