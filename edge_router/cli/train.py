"""`edge-router train`: the commands that need PyTorch, which is loaded when one of them runs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import click

from edge_router.cli.options import LadderChoice, ladder_options
from edge_router.cli.types import COUNT, FILE, JOBS, KV, SEED, TASK, TEXT
from edge_router.parts import load_part

STAGES = ("collect", "sft", "grpo", "export", "evaluate")


@click.group()
def train() -> None:
    """Train a router for a ladder."""


@train.command()
@ladder_options()
@click.option(
    "--task", type=TASK, default="alfworld", show_default=True, help="The task to train on."
)
@click.option("--games", type=FILE, help="A folder of games, instead of games drawn as needed.")
@click.option(
    "--run",
    "folder",
    type=FILE,
    default="runs/router",
    show_default=True,
    help="Everything is kept here; the same command goes on where it stopped.",
)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    type=click.Choice(STAGES),
    help="Only this stage; may be repeated.  [all]",
)
@click.option(
    "--kv",
    type=KV,
    default="handoff",
    show_default=True,
    help="KV mode to train for, as in play.",
)
@click.option(
    "--also-kv",
    "more_kv",
    type=KV,
    multiple=True,
    metavar="MODE",
    help="A KV mode to evaluate as well.",
)
@click.option("--train-games", type=COUNT, default=1200, show_default=True)
@click.option(
    "--select-games",
    type=COUNT,
    default=500,
    show_default=True,
    help="Games on which networks and thresholds are chosen.",
)
@click.option(
    "--test-games",
    type=COUNT,
    default=400,
    show_default=True,
    help="Games that are played when all is chosen.",
)
@click.option("--iterations", type=COUNT, help="Of GRPO.  [150]")
@click.option(
    "--cost",
    type=TEXT,
    metavar="NAME",
    help="Cost profile (edge-router calibrate): GRPO's reward counts its seconds.  "
    "[the escalation rate]",
)
@click.option(
    "--profile",
    "profiles",
    type=TEXT,
    multiple=True,
    metavar="NAME",
    help="Cost profile whose seconds the tables tell; may be repeated.",
)
@click.option("--jobs", type=JOBS, default=2, show_default=True, help="Processes.")
@click.option("--dask", metavar="ADDRESS", help="Explore on this dask cluster (tcp://host:8786).")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--official/--no-official",
    default=True,
    show_default=True,
    help="Evaluate on valid_seen too, where ALFWORLD_DATA has it.",
)
def router(ladder: LadderChoice, **options: Any) -> None:
    """Train a router: explore, supervise, improve, export, compare.

    collect plays games with every tier and keeps each history; sft teaches
    networks where the tiers disagree; grpo improves them by what it costs and
    wins; export chooses one, sets its dial and writes router.onnx; evaluate
    compares it with everything else. Ctrl-C, a crash or a kill loses no more
    than the last minute.

    \b
    edge-router train router
    edge-router train router --model my-ladder --run runs/mine --stage collect
    edge-router train router --tier low=a.gguf --tier high=b.gguf --games my-games
    """
    part = load_part("train.router.commands", extra="train")
    sys.exit(part.run(part.TrainOptions(**asdict(ladder), **options)))
