"""`edge-router bench`, `calibrate`, `doctor` and `report`: options here, work in `bench`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_router.cli.config import yields_to
from edge_router.cli.types import (
    CONTEXT,
    COUNT,
    FILE,
    JOBS,
    KV,
    MODEL,
    REAL,
    ROUTER,
    SEED,
    SPLIT,
    STEPS,
    TEXT,
    THREADS,
    thread_numbers,
)

Command = TypeVar("Command", bound=Callable[..., Any])


def output_options(command: Command) -> Command:
    """--json, --csv, --markdown and --plot."""
    for option in (
        click.option("--plot", type=FILE, help="Draw the results into this .png or .svg file."),
        click.option("--markdown", is_flag=True, help="Print the tables as Markdown."),
        click.option("--full", is_flag=True, help="Print all tables, not only the summary."),
        click.option("--csv", type=FILE, help="Write the numbers to this CSV file."),
        click.option("--json", type=FILE, help="Write the results to this file, for report."),
    ):
        command = option(command)
    return command


def ladder_options(command: Command) -> Command:
    """--model and --tier."""
    for option in (
        click.option(
            "--tier",
            "tiers",
            type=TEXT,
            callback=yields_to("model", "shape"),
            multiple=True,
            metavar="NAME=PATH",
            help="A tier's GGUF; once per tier, low to high, instead of --model.",
        ),
        click.option(
            "--model",
            type=MODEL,
            callback=yields_to("tiers", "shape"),
            help="Embedded model or a folder with ladder.toml.  [household]",
        ),
    ):
        command = option(command)
    return command


def game_options(command: Command) -> Command:
    """Which games, where they run, and where their results are kept."""
    for option in (
        click.option(
            "--play-crashed-again", is_flag=True, help="Play games anew that the engine crashed on."
        ),
        click.option("--store", type=FILE, help="Keep results in this file.  [the user's cache]"),
        click.option(
            "--dask", metavar="ADDRESS", help="Play on this dask cluster (tcp://host:8786)."
        ),
        click.option("--threads", type=THREADS, help="CPU threads a game.  [follows the machine]"),
        click.option(
            "--jobs",
            type=JOBS,
            default=1,
            show_default=True,
            help="Games to play at once.",
        ),
        click.option("--ctx", type=CONTEXT, help="Context in tokens.  [up to 4096]"),
        click.option("--seed", type=SEED, default=0, show_default=True),
        click.option("--max-steps", type=STEPS, default=50, show_default=True),
        click.option(
            "--games",
            type=COUNT,
            metavar="N",
            help="Only N games, spread evenly over the task types.  [all]",
        ),
        click.option(
            "--folder",
            type=FILE,
            callback=yields_to("split"),
            help="A folder of games instead of a split.",
        ),
        click.option(
            "--split",
            type=SPLIT,
            callback=yields_to("folder"),
            help="generated, train, valid_seen or valid_unseen, as for play.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def bench() -> None:
    """Measure what precision costs here and what routing buys."""


@bench.command()
@game_options
@ladder_options
@click.option(
    "--routers",
    type=ROUTER,
    multiple=True,
    default=("low,high,auto,matched:auto,retry:auto,expert",),
    show_default=True,
    help="Rows of the table, joined by commas.",
)
@click.option(
    "--kv", type=KV, default="handoff", show_default=True, help="KV modes, joined by commas."
)
@click.option("--dial", default="", help="Dials for onnx routers, joined by commas.")
@click.option("--oracle", type=FILE, help="Plans from rollouts, for the row oracle.")
@click.option(
    "--costs", type=TEXT, help="Cost profile for the seconds.  [this ladder's, from calibrate]"
)
@click.option("--temperature", type=REAL, default=0.0, show_default="greedy")
@click.option(
    "--retry-temperature",
    type=REAL,
    default=0.7,
    show_default=True,
    help="Temperature of a retry's later attempts.",
)
@click.option("--constrain", is_flag=True, help="Limit actions to the admissible commands.")
@click.option("--traces", type=FILE, help="Keep every episode's trace in this folder, for replay.")
@output_options
def policies(
    json: Path | None,
    csv: Path | None,
    plot: Path | None,
    markdown: bool,
    full: bool,
    **options: Any,
) -> None:
    """Play games under many routers and compare success and cost.

    Rows: every router of play (a dial is written onnx:PATH@0.3), auto, alone:TIER
    (that tier without a ladder), matched:ROUTER (chance, with the shares of tiers
    that ROUTER used), retry:ROUTER (the low tier plays lost games again for
    what ROUTER cost), oracle, expert. Each game is stored as it ends: after Ctrl-C
    the same command goes on, and a game is never played twice.

    \b
    edge-router bench policies --split valid_seen --jobs 2
    edge-router bench policies --routers low,high,entropy:0.01 --kv handoff,exact
    edge-router bench policies --games 30 --json p.json --plot p.png
    """
    from edge_router.evaluate.run_policies import PolicyOptions, run_policies
    from edge_router.results.outputs import Outputs

    outputs = Outputs(json, csv, plot, markdown, full)
    sys.exit(run_policies(PolicyOptions(**options), outputs))


@bench.command("tiers")
@game_options
@ladder_options
@output_options
def compare_tiers(
    json: Path | None,
    csv: Path | None,
    plot: Path | None,
    markdown: bool,
    full: bool,
    **options: Any,
) -> None:
    """Play each tier alone and measure how far it is from the high tier.

    Every tier plays every game greedily, without a ladder. Each step of the
    high tier is then scored by the others: KL(high || tier) per token in nats, and
    how often the tier would have written another text or another action.

    \b
    edge-router bench tiers --split valid_seen --jobs 2 --json tiers.json
    """
    from edge_router.evaluate.run_policies import PolicyOptions
    from edge_router.evaluate.run_tiers import run_tiers
    from edge_router.results.outputs import Outputs

    sys.exit(run_tiers(PolicyOptions(**options), Outputs(json, csv, plot, markdown, full)))


def subject_options(command: Command) -> Command:
    """--model, --tier, or --shape with --precisions; and -r."""
    for option in (
        click.option(
            "-r",
            "--repeats",
            type=COUNT,
            default=5,
            show_default=True,
            help="Repeats, after a warm-up.",
        ),
        click.option(
            "--precisions", help="The shape's tiers, low to high, by commas.  [q4_k_m,q8_0]"
        ),
        click.option(
            "--shape",
            callback=yields_to("model", "tiers"),
            metavar="NAME",
            help="Random weights of this model's shape, made once, instead of a model: "
            "qwen3-0.6b, qwen3-1.7b, qwen3-4b, llama-3.2-1b.",
        ),
    ):
        command = option(command)
    return ladder_options(command)


@bench.command()
@subject_options
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
    "--spans", default="32,128,512,2048", show_default=True, help="Tokens to hand over, by commas."
)
@output_options
def speed(
    model: str | None,
    tiers: tuple[str, ...],
    shape: str | None,
    precisions: str | None,
    spans: str,
    threads: tuple[int, ...],
    json: Path | None,
    csv: Path | None,
    plot: Path | None,
    markdown: bool,
    full: bool,
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
    from edge_router.bench.run_speed import run_speed
    from edge_router.bench.speed import SpeedOptions
    from edge_router.results.outputs import Outputs

    wanted = SpeedOptions(
        spans=_numbers("--spans", spans),
        threads=threads[0] if threads else None,
        sweep=threads if len(threads) > 1 else (),
        **options,
    )
    outputs = Outputs(json, csv, plot, markdown, full)
    sys.exit(run_speed(model, tiers, shape, precisions, wanted, outputs))


@click.command()
@subject_options
@click.option("--threads", type=THREADS, help="CPU threads.  [follows the machine]")
@output_options
def calibrate(
    model: str | None,
    tiers: tuple[str, ...],
    shape: str | None,
    precisions: str | None,
    json: Path | None,
    csv: Path | None,
    plot: Path | None,
    markdown: bool,
    full: bool,
    **options: Any,
) -> None:
    """Measure what each tier costs here and keep it for routers and reports.

    Cost is seconds on this machine, not bits: seconds to read and to write a token
    on each tier and to hand a token over. Says which tiers are worth having. A
    profile is kept for each ladder; one of a --shape goes by its name, for
    bench policies --costs NAME.

    \b
    edge-router calibrate
    edge-router calibrate --shape qwen3-1.7b --precisions iq1_s,q8_0
    """
    from edge_router.bench.calibrate import CalibrationOptions
    from edge_router.bench.run_calibrate import run_calibrate
    from edge_router.results.outputs import Outputs

    outputs = Outputs(json, csv, plot, markdown, full)
    wanted = CalibrationOptions(**options)
    sys.exit(run_calibrate(model, tiers, shape, precisions, wanted, outputs))


@click.command()
@ladder_options
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON on stdout.")
def doctor(model: str | None, tiers: tuple[str, ...], as_json: bool) -> None:
    """Look at build, machine, ladder and games, with advice for each problem.

    The exit code is 1 when something stands in the way of playing.
    """
    from edge_router.bench.run_doctor import run_doctor

    sys.exit(run_doctor(model, tiers, as_json=as_json))


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
    from edge_router.results.run_report import run_report

    sys.exit(run_report(folder, out))


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Numbers joined by commas, each at least 1."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise click.BadParameter(f"{text!r}: write numbers joined by commas", param_hint=option)
    return tuple(int(word) for word in words)
