"""`edge-router bench` and `report`: what routing buys, how far tiers differ, how fast they are."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from edge_router.cli.config import yields_to
from edge_router.cli.options import (
    GrownChoice,
    LadderChoice,
    SubjectChoice,
    group,
    grown_ladder,
    ladder_options,
    machine_options,
    output_options,
    subject_options,
)
from edge_router.cli.types import (
    COUNT,
    FILE,
    JOBS,
    KV,
    REAL,
    ROUTER,
    SEED,
    SPLIT,
    STEPS,
    TASK,
    TEXT,
    WORD,
    thread_numbers,
)

if TYPE_CHECKING:
    from edge_router.engine.tier_spec import ModelRuntime
    from edge_router.evaluate.choices import EpisodeChoice, GameSet, RowChoice, WorkPlace
    from edge_router.results.outputs import Outputs


game_options = group(
    "asked",
    lambda: _choices().GameSet,
    click.option("--task", type=TASK, default="alfworld", show_default=True, help="Whose games."),
    click.option(
        "--split",
        type=SPLIT,
        callback=yields_to("folder"),
        help="generated, train, valid_seen or valid_unseen, as for play.",
    ),
    click.option(
        "--folder",
        type=FILE,
        callback=yields_to("split"),
        help="A folder of games instead of a split.",
    ),
    click.option(
        "--games",
        type=COUNT,
        metavar="N",
        help="Only N games, spread evenly over the task types.  [all]",
    ),
)
steps_option = click.option("--max-steps", type=STEPS, default=50, show_default=True)
seed_option = click.option("--seed", type=SEED, default=0, show_default=True)
place_options = group(
    "place",
    lambda: _choices().WorkPlace,
    click.option(
        "--jobs",
        type=JOBS,
        default=1,
        show_default=True,
        help="Games to play at once, each on --threads.",
    ),
    click.option(
        "--dask", type=WORD, metavar="ADDRESS", help="Play on this dask cluster (tcp://host:8786)."
    ),
    click.option("--store", type=FILE, help="Keep results in this file.  [the user's cache]"),
    click.option(
        "--play-crashed-again", is_flag=True, help="Play games anew that the engine crashed on."
    ),
)
row_options = group(
    "who",
    lambda: _choices().RowChoice,
    click.option(
        "--routers",
        type=ROUTER,
        multiple=True,
        default=("low,high,auto,matched:auto,retry:auto,expert",),
        show_default=True,
        help="Rows of the table, joined by commas.",
    ),
    click.option(
        "--kv",
        type=KV,
        help="KV modes, joined by commas.  [what ladder.toml suggests, else handoff]",
    ),
    click.option("--dial", type=TEXT, help="Dials for onnx routers, joined by commas."),
    click.option("--oracle", type=FILE, help="Plans from rollouts, for the row oracle."),
    click.option(
        "--costs", type=TEXT, help="Cost profile for the seconds.  [this ladder's, from calibrate]"
    ),
    click.option(
        "--against",
        type=ROUTER,
        help="The row that the others are compared with.  [high; with --as the high tier alone]",
    ),
)
episode_options = group(
    "episode",
    lambda: _choices().EpisodeChoice,
    steps_option,
    seed_option,
    click.option("--temperature", type=REAL, default=0.0, show_default="greedy"),
    click.option(
        "--retry-temperature",
        type=REAL,
        default=0.7,
        show_default=True,
        help="Temperature of a retry's later attempts.",
    ),
    click.option("--constrain", is_flag=True, help="Limit actions to the admissible commands."),
    click.option(
        "--traces", type=FILE, help="Keep every episode's trace in this folder, for replay."
    ),
)
grown_options = group(
    "grown",
    lambda: GrownChoice,
    click.option(
        "--as",
        "shape",
        type=WORD,
        metavar="SHAPE",
        help="Grow the ladder to the cost of this model, with the same decisions: qwen3-0.6b, "
        "qwen3-1.7b, qwen3-4b, llama-3.2-1b.",
    ),
    click.option(
        "--as-types",
        "types",
        type=WORD,
        metavar="TIER=PRECISION,...",
        help="Precisions of the grown layers.  [low=q4_k_m,high=q8_0]",
    ),
)


def _choices() -> ModuleType:
    """The module of the values that the groups make, loaded when a command runs."""
    from edge_router.evaluate import choices

    return choices


@click.group()
def bench() -> None:
    """Measure what precision costs here and what routing buys."""


@bench.command()
@game_options
@ladder_options()
@grown_options
@row_options
@episode_options
@machine_options
@place_options
@output_options
def policies(
    asked: GameSet,
    ladder: LadderChoice,
    grown: GrownChoice,
    who: RowChoice,
    episode: EpisodeChoice,
    machine: ModelRuntime,
    place: WorkPlace,
    outputs: Outputs,
) -> None:
    """Play games under many routers and compare success and cost.

    Rows: every router of play (a dial is written onnx:PATH@0.3), auto, alone:TIER
    (that tier without a ladder), rewrite:ROUTER (ROUTER, its escalated drafts
    written anew and not verified), lookup:ROW (that row with play's --lookup),
    matched:ROUTER (chance, with the shares of tiers that ROUTER used),
    retry:ROUTER (the low tier plays lost games again for what ROUTER cost),
    oracle, expert. Each game is stored as it ends: after Ctrl-C
    the same command goes on, and a game is never played twice.

    \b
    edge-router bench policies --split valid_seen --jobs 2
    edge-router bench policies --routers low,high,entropy:0.01 --kv handoff,exact
    edge-router bench policies --games 30 --json p.json --plot p.png
    edge-router bench policies --as qwen3-1.7b --games 12 --routers low,auto
    """
    from edge_router.evaluate.run_policies import run_policies

    found = grown_ladder(ladder, grown)
    sys.exit(run_policies(found, asked, who, episode, machine, place, outputs))


@bench.command("tiers")
@game_options
@ladder_options()
@steps_option
@seed_option
@machine_options
@place_options
@output_options
def compare_tiers(
    asked: GameSet,
    ladder: LadderChoice,
    max_steps: int,
    seed: int,
    machine: ModelRuntime,
    place: WorkPlace,
    outputs: Outputs,
) -> None:
    """Play each tier alone and measure how far it is from the high tier.

    Every tier plays every game greedily, without a ladder. Each step of the
    high tier is then scored by the others: KL(high || tier) per token in nats, and
    how often the tier would have written another text or another action.

    \b
    edge-router bench tiers --split valid_seen --jobs 2 --json tiers.json
    """
    from edge_router.evaluate.choices import EpisodeChoice
    from edge_router.evaluate.run_tiers import run_tiers

    episode = EpisodeChoice(max_steps, seed)
    sys.exit(run_tiers(ladder.resolved(), asked, episode, machine, place, outputs))


@bench.command()
@subject_options()
@click.option(
    "-t",
    "--threads",
    callback=thread_numbers,
    metavar="N,...",
    help="CPU threads; several numbers are compared.  [physical cores]",
)
@click.option(
    "-p",
    "--prefill",
    type=COUNT,
    default=512,
    show_default=True,
    help="Tokens to prefill.",
)
@click.option(
    "-n",
    "--decode",
    type=COUNT,
    default=128,
    show_default=True,
    help="Tokens to decode.",
)
@click.option(
    "--spans",
    type=WORD,
    help="Tokens to hand over, by commas.  [32,128,512,2048, where the context holds them]",
)
@output_options
def speed(
    subject: SubjectChoice,
    spans: str | None,
    threads: tuple[int, ...],
    outputs: Outputs,
    **options: Any,
) -> None:
    """Measure each tier's speed, loading and memory, handoff and routing.

    -p, -n, -r and -t are llama-bench's; with several numbers of threads (-t 1,2,4)
    prefill and decode are measured for each, and nothing else. Our loop, bare llama_decode and
    llama-cpp-python's Llama are taken in turn on the same files and prompt, and so
    are handoff and prefill. Take figures on an idle machine.

    \b
    edge-router bench speed
    edge-router bench speed -t 1,2,4
    edge-router bench speed --shape qwen3-0.6b --json speed.json --plot speed.png
    """
    from edge_router.bench.speed import SpeedOptions, run_speed

    wanted = SpeedOptions(
        spans=None if spans is None else _numbers("--spans", spans),
        threads=threads[0] if threads else None,
        sweep=threads if len(threads) > 1 else (),
        **options,
    )
    model, tiers, shape, precisions = (
        subject.model,
        subject.tiers,
        subject.shape,
        subject.precisions,
    )
    sys.exit(run_speed(model, tiers, shape, precisions, wanted, outputs))


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Numbers joined by commas, each at least 1."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise click.BadParameter(f"{text!r}: write numbers joined by commas", param_hint=option)
    return tuple(int(word) for word in words)


# -- report ---------------------------------------------------------------------------------------


@click.command()
@click.argument("folder", type=FILE)
@click.option("--out", type=FILE, help="The page to write.  [FOLDER/report.html]")
def report(folder: Path, out: Path | None) -> None:
    """Put the results of a folder into one self-contained HTML page.

    FOLDER holds files that bench and calibrate wrote with --json.

    \b
    edge-router bench policies --json results/policies.json
    edge-router report results
    """
    from edge_router.results.report import run_report

    sys.exit(run_report(folder, out))
