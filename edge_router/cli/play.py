"""`edge-router play`: put games, ladder, router and listeners together and play.

On a terminal the app of `tui` opens; `--plain`, `--json` and pipes get one
episode, printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from edge_router.agent.episode import Options
from edge_router.agent.listeners.output import opens_app, stdout_printer
from edge_router.agent.listeners.slowness import profile_of
from edge_router.agent.session import Session
from edge_router.engine.ladder import Ladder, default_context
from edge_router.engine.sampling import Sampler
from edge_router.engine.tier import KvMode
from edge_router.errors import UserError
from edge_router.ladders.resolve import resolve, router_for
from edge_router.parts import load_part
from edge_router.router.base import Router
from edge_router.tasks.alfworld.game import AlfworldGame
from edge_router.tasks.alfworld.game_files import default_game, games_of, pick
from edge_router.tasks.protocol import TASKS

DEFAULT_DIAL = 0.5


def run(
    *,
    task: str,
    split: str | None,
    games: Path | None,
    game: str | None,
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
    trace: Path | None,
    as_json: bool,
    plain: bool,
    pace: float | None,
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
    chosen_router, specs = router_for(chosen, router), chosen.tiers
    setting = _dial(chosen_router, dial, budget)
    context = ctx if ctx is not None else default_context(specs)
    chosen_router.reset(tuple(spec.name for spec in specs), seed)
    in_app = opens_app(as_json=as_json, plain=plain)
    options = Options(
        max_steps=max_steps,
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        min_p=min_p,
        dial=setting,
        constrain=constrain,
        prompt=chosen.prompt,
        fingerprints=trace is not None or in_app,
    )
    looked = games_of(games, split)
    found = list(looked.games)
    first = pick(found, default_game(found) if game is None else game, seed)
    if games is not None and looked.note and not in_app:
        click.echo(f"edge-router: {looked.note}", err=True)
    AlfworldGame(first.path)  # refuses a damaged file
    load = partial(
        Ladder.load, specs, kv=mode, n_ctx=context, n_threads=threads, n_gpu_layers=gpu_layers
    )
    before = profile_of(chosen.name)
    say = _nothing if in_app else _say_on_stderr
    with Session(found, load, chosen_router, options, trace, say) as session:
        if in_app:
            app = load_part("tui.apps.commands", extra="tui")
            paced = {} if pace is None else {"pace": pace}
            return int(app.play(session, first, profile=before, **paced))
        finished = session.play(first, [stdout_printer(as_json=as_json, profile=before)])
    return 130 if finished.reason == "interrupted" else 0


def _nothing(phase: str) -> None:
    """The app reads the session's phase itself."""


def _say_on_stderr(phase: str) -> None:
    """What is waited for, on a line that is taken away again; nobody waits before a file."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{phase and phase + ' ...'}", err=True, nl=False)


def _dial(router: Router, dial: float | None, budget: float | None) -> float:
    """The dial as asked for, or the one that keeps within the budget."""
    if budget is None:
        return DEFAULT_DIAL if dial is None else dial
    if dial is not None:
        raise UserError("--dial and --budget exclude each other; give one of them")
    return router.dial_for(budget)
