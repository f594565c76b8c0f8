"""`edge-router play`: put task, ladder, router and listeners together and play one episode."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from edge_router.agent.episode import Options, play_episode
from edge_router.agent.events import Listener
from edge_router.agent.output import stdout_printer
from edge_router.agent.trace import TraceWriter
from edge_router.engine.ladder import Ladder, default_context
from edge_router.engine.sampling import Sampler
from edge_router.engine.tier import KvMode
from edge_router.errors import UserError
from edge_router.models import resolve
from edge_router.router.base import Router
from edge_router.router.onnx_router import OnnxRouter
from edge_router.router.parse import make_router
from edge_router.tasks.alfworld import open_game

TASKS = ("alfworld",)
AUTO = "auto"
DEFAULT_DIAL = 0.5


def run(
    *,
    task: str,
    split: str | None,
    games: str | None,
    game: str,
    model: str | None,
    tiers: Sequence[str],
    router: str,
    dial: float | None,
    budget: float | None,
    kv: str,
    max_steps: int,
    seed: int,
    temperature: float,
    top_p: float,
    min_p: float,
    constrain: bool,
    trace: str | None,
    as_json: bool,
    plain: bool,
    threads: int | None,
    gpu_layers: int,
    ctx: int | None,
) -> int:
    """Play and return the exit code. Everything that can be wrong is checked before loading."""
    if task not in TASKS:
        raise UserError(f"there is no task {task!r}; tasks are {', '.join(TASKS)}")
    mode = KvMode.parse(kv)
    Sampler(temperature, top_p=top_p, min_p=min_p, seed=seed)  # refuses what is out of range
    chosen = resolve(model, tiers)
    chosen_router, specs = make_router(chosen.router if router == AUTO else router), chosen.tiers
    setting = _dial(chosen_router, dial, budget)
    context = ctx if ctx is not None else default_context(specs)
    chosen_router.reset(tuple(spec.name for spec in specs), seed)
    options = Options(
        max_steps=max_steps,
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        min_p=min_p,
        dial=setting,
        constrain=constrain,
        fingerprints=trace is not None,
    )
    with ExitStack() as stack:
        played = open_game(split, game, seed, games=games)
        stack.callback(played.close)
        listeners: list[Listener] = []
        if trace is not None:  # first: what is on screen is then in the trace
            listeners.append(stack.enter_context(TraceWriter(Path(trace))))
        listeners.append(stdout_printer(as_json=as_json, plain=plain))
        ladder = stack.enter_context(
            Ladder.load(specs, kv=mode, n_ctx=context, n_threads=threads, n_gpu_layers=gpu_layers)
        )
        finished = play_episode(played, ladder, chosen_router, options, listeners)
    return 130 if finished.reason == "interrupted" else 0


def _dial(router: Router, dial: float | None, budget: float | None) -> float:
    """The dial as asked for, or the one that keeps within the budget."""
    if budget is None:
        return DEFAULT_DIAL if dial is None else dial
    if dial is not None:
        raise UserError("--dial and --budget exclude each other; give one of them")
    if not isinstance(router, OnnxRouter):
        raise UserError(
            f"router {router.spec} cannot keep a budget; --budget needs a trained one, onnx:PATH"
        )
    return router.dial_for(budget)
