"""`edge-router play`: put games, ladder, router and listeners together and play.

On a terminal the app of `tui` opens; `--plain`, `--json` and pipes get one
episode, printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_router.cli.config import yields_to
from edge_router.cli.options import (
    Display,
    LadderChoice,
    Routing,
    display_options,
    group,
    ladder_options,
    machine_options,
    routing_options,
)
from edge_router.cli.types import (
    FILE,
    GAME,
    REAL,
    SEED,
    SPLIT,
    STEPS,
    TASK,
)
from edge_router.engine.tier_spec import ModelRuntime
from edge_router.tasks.games import pick
from edge_router.tasks.protocol import chosen_games
from edge_router.tasks.registry import find_task

if TYPE_CHECKING:
    from edge_router.ladders.ladder_file import LadderFile
    from edge_router.router.base import Router


@dataclass(frozen=True)
class GameChoice:
    """Which game is played."""

    task: str
    split: str | None
    games: Path | None
    game: str | None


@dataclass(frozen=True)
class Sampling:
    """How long an episode lasts and how its text is sampled."""

    max_steps: int
    seed: int
    temperature: float
    top_p: float
    min_p: float
    constrain: bool


game_options = group(
    "chosen",
    lambda: GameChoice,
    click.option(
        "--task", type=TASK, default="alfworld", show_default=True, help="The task to play."
    ),
    click.option(
        "--split",
        type=SPLIT,
        callback=yields_to("games"),
        help="generated (ours, the default), or train, valid_seen, valid_unseen of the "
        "official games in ALFWORLD_DATA (then valid_seen is the default).",
    ),
    click.option(
        "--games",
        type=FILE,
        callback=yields_to("split"),
        help="A folder of games, or one game's file, instead of a split.",
    ),
    click.option(
        "--game",
        type=GAME,
        help="INDEX, ID (or its start), random, or a game's FILE.  [a game that shows routing, "
        "else 0]",
    ),
)
sampling_options = group(
    "sampling",
    lambda: Sampling,
    click.option("--max-steps", type=STEPS, default=50, show_default=True),
    click.option("--seed", type=SEED, default=0, show_default=True),
    click.option("--temperature", type=REAL, default=0.0, show_default="greedy"),
    click.option("--top-p", type=REAL, default=1.0, show_default=True),
    click.option("--min-p", type=REAL, default=0.0, show_default=True),
    click.option("--constrain", is_flag=True, help="Limit actions to the admissible commands."),
)


@click.command()
@game_options
@ladder_options()
@routing_options
@sampling_options
@click.option("--trace", type=FILE, help="Record the episode in this JSONL file.")
@display_options
@machine_options
def play(
    chosen: GameChoice,
    ladder: LadderChoice,
    routing: Routing,
    sampling: Sampling,
    trace: Path | None,
    display: Display,
    machine: ModelRuntime,
) -> None:
    """Play an episode and watch which precision writes each step, and why.

    On a terminal this opens an app with keys for everything (? shows them);
    --plain, --json, or output that goes elsewhere get the run as text.
    Each step shows which tier wrote it and why, and where its time went:
    prefill (the low tier reads what is new), route, handoff, catch-up
    (what the chosen tier reads itself) and decode. The exit code is 0 whether
    the game is won or lost, 2 for bad input, 130 after Ctrl-C.

    \b
    edge-router play --task alfworld --game random --seed 3
    edge-router play --router entropy:0.3 --kv handoff:16
    edge-router play --tier low=small.gguf --tier high=big.gguf --json
    edge-router play --plain
    """
    sys.exit(run(chosen, ladder, routing, sampling, trace, display, machine))


def run(
    chosen: GameChoice,
    ladder: LadderChoice,
    routing: Routing,
    sampling: Sampling,
    trace: Path | None,
    display: Display,
    machine: ModelRuntime,
) -> int:
    """Play and return the exit code. Everything that can be wrong is checked before loading."""
    from edge_router.agent.episode import Options
    from edge_router.agent.listeners.output import opens_app, stdout_printer
    from edge_router.agent.listeners.slowness import profile_of
    from edge_router.agent.session import Session
    from edge_router.engine.ladder import Ladder
    from edge_router.engine.loading import settled
    from edge_router.engine.sampling import Sampler
    from edge_router.engine.tier import KvMode
    from edge_router.parts import load_part

    task = find_task(chosen.task)
    Sampler(
        sampling.temperature, top_p=sampling.top_p, min_p=sampling.min_p, seed=sampling.seed
    )  # refuses what is out of range
    found = ladder.resolved()
    mode = KvMode.parse(routing.kv or found.kv)
    router, specs = routing.router_for(found), found.tiers
    machine = settled(machine, specs)
    router.reset(tuple(spec.name for spec in specs), sampling.seed)
    in_app = opens_app(as_json=display.as_json, plain=display.plain)
    options = Options(
        **asdict(sampling),
        dial=routing.setting,
        prompt=found.prompt,
        lookup=routing.lookup,
        fingerprints=trace is not None or in_app,
    )
    looked, asked = chosen_games(task, chosen.game, chosen.split, chosen.games)
    games = looked.games
    first = pick(games, asked, sampling.seed)
    if chosen.games is not None and looked.note and not in_app:
        click.echo(f"edge-router: {looked.note}", err=True)
    task.open(first)  # refuses a damaged file
    load = partial(Ladder.load_on, machine, specs, kv=mode)
    before = profile_of(found.name)
    say = _nothing if in_app else _say_on_stderr
    with (
        _keeping_scores(router, found),
        Session(games, load, router, options, trace, say) as session,
    ):
        if in_app:
            app = load_part("tui.apps.commands", extra="tui")
            paced = {} if display.pace is None else {"pace": display.pace}
            return int(app.play(session, first, profile=before, **paced))
        finished = session.play(first, [stdout_printer(as_json=display.as_json, profile=before)])
    return 130 if finished.reason == "interrupted" else 0


@contextmanager
def _keeping_scores(router: Router, ladder: LadderFile) -> Iterator[None]:
    """What a budget learns of the scores is there for the next run."""
    from edge_router.ladders.scores import keep

    try:
        yield
    finally:
        keep(router, ladder)


def _nothing(phase: str) -> None:
    """The app reads the session's phase itself."""


def _say_on_stderr(phase: str) -> None:
    """What is waited for, on a line that is taken away again; nobody waits before a file."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{phase and phase + ' ...'}", err=True, nl=False)
