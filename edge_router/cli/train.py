"""`edge-router train`: the commands that need PyTorch, which is loaded when one of them runs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import click

from edge_router.cli.options import LadderChoice, ladder_options
from edge_router.cli.types import (
    COUNT,
    COUNT_OR_NONE,
    FETCHABLE,
    FILE,
    GROUP_SIZE,
    JOBS,
    KV,
    RATE,
    SEED,
    SPEED,
    TASK,
    TEXT,
    WEIGHT,
    WORD,
)
from edge_router.errors import UserError
from edge_router.parts import load_part
from edge_router.training import (
    ADAPTER_RATE,
    FULL_RATE,
    GRPO_CLIP_RANGE,
    GRPO_GAMES,
    GRPO_GROUP_SIZE,
    GRPO_KL_COEFFICIENT,
    GRPO_TEMPERATURE,
    ITERATIONS,
    LORA_RANK,
    MAX_TOKENS,
    PROMPT_JOBS,
    SELECT_GAMES,
    STAGES,
    TEST_GAMES,
    TRAIN_GAMES,
)
from edge_router.training import JOBS as ROUTER_JOBS


@click.group()
def train() -> None:
    """Train a router for a ladder, or fine-tune a model to make a ladder of."""


@train.command()
@click.option(
    "--base",
    required=True,
    metavar="SOURCE",
    type=FETCHABLE,
    help="A chat model: a Hugging Face id, a checkpoint's folder, or a GGUF.",
)
@click.option(
    "--lora", type=COUNT, metavar="RANK", help=f"Train LoRA adapters of this rank.  [{LORA_RANK}]"
)
@click.option("--full", is_flag=True, help="Train all weights instead of adapters.")
@click.option(
    "--task", type=TASK, default="alfworld", show_default=True, help="The task to train on."
)
@click.option(
    "--episodes",
    type=COUNT,
    default=20_000,
    show_default=True,
    help="Expert episodes to learn from, some 700 tokens each.",
)
@click.option(
    "--out",
    type=FILE,
    default="runs/lm-tuned",
    show_default=True,
    help="Everything is kept here; the same command goes on where it stopped.",
)
@click.option(
    "--learning-rate", type=RATE, help=f"Of AdamW.  [{ADAPTER_RATE:g}; {FULL_RATE:g} with --full]"
)
@click.option(
    "--rows", type=COUNT, default=16, show_default=True, help="Rows in an optimiser step."
)
@click.option(
    "--at-once", type=COUNT, default=4, show_default=True, help="Of them, in memory at a time."
)
@click.option("--length", type=COUNT, default=2048, show_default=True, help="Tokens in a row.")
@click.option(
    "--dagger",
    type=COUNT_OR_NONE,
    default=0,
    show_default=True,
    help="Rounds in which the model plays and the expert corrects it.",
)
@click.option(
    "--dagger-games", type=COUNT, default=1024, show_default=True, help="Games of a round."
)
@click.option(
    "--grpo",
    type=COUNT_OR_NONE,
    default=0,
    show_default=True,
    help="Iterations in which the model plays and learns from success and steps.",
)
@click.option(
    "--grpo-games", type=COUNT, default=GRPO_GAMES, show_default=True, help="Games of an iteration."
)
@click.option(
    "--grpo-group-size",
    type=GROUP_SIZE,
    default=GRPO_GROUP_SIZE,
    show_default=True,
    help="Episodes of a game, compared with each other.",
)
@click.option(
    "--grpo-temperature",
    type=SPEED,
    default=GRPO_TEMPERATURE,
    show_default=True,
    help="At which the model plays.",
)
@click.option(
    "--grpo-clip-range",
    type=RATE,
    default=GRPO_CLIP_RANGE,
    show_default=True,
    help="How far a token's probability may move in an iteration, as a share.",
)
@click.option(
    "--grpo-kl-coefficient",
    type=WEIGHT,
    default=GRPO_KL_COEFFICIENT,
    show_default=True,
    help="What holds it near the tuned model.",
)
@click.option("--grpo-learning-rate", type=RATE, help="Of AdamW.  [a tenth of --learning-rate]")
@click.option(
    "--evaluate-games",
    type=COUNT,
    default=50,
    show_default=True,
    help="Games that the model plays now and then while it learns.",
)
@click.option(
    "--tiers",
    type=WORD,
    default="q4_0,q8_0",
    show_default=True,
    help="Precisions to make, separated by commas.",
)
@click.option(
    "--measure-games",
    type=COUNT_OR_NONE,
    default=60,
    show_default=True,
    help="Games that every tier plays at the end.",
)
@click.option(
    "--workers", type=COUNT_OR_NONE, default=1, show_default=True, help="Draw the episodes."
)
@click.option("--device", type=click.Choice(["cuda", "mps", "cpu"]), help="[the best there is]")
@click.option("--seed", type=SEED, default=1, show_default=True)
def lm(lora: int | None, full: bool, learning_rate: float | None, **options: Any) -> None:
    """Fine-tune a chat model on expert episodes and make a ladder of it.

    The episodes are played by the scripted expert in households drawn for
    it, mistakes and recoveries among them; the loss lies on its thoughts and
    actions. Ends with an adapter, a merged checkpoint, a ladder, and what each
    tier wins alone. A quantised GGUF is trained from the values of its blocks.

    \b
    edge-router train lm --base HuggingFaceTB/SmolLM2-135M-Instruct
    edge-router train lm --base my-checkpoint --full --episodes 50000 --out runs/mine
    """
    if full and lora is not None:
        raise UserError("--full and --lora exclude each other; give one of them")
    part = load_part("train.lm.tune.commands", extra="train")
    sys.exit(
        part.start(lora=0 if full else (lora or LORA_RANK), learning_rate=learning_rate, **options)
    )


@train.command()
@ladder_options()
@click.option(
    "--task",
    type=TASK,
    default="alfworld",
    show_default=True,
    help="The task to train on; prompts are chats from a file.",
)
@click.option(
    "--prompts",
    type=FILE,
    metavar="FILE",
    help="For --task prompts: chat messages, one chat a line.",
)
@click.option(
    "--max-tokens",
    type=COUNT,
    default=MAX_TOKENS,
    show_default=True,
    help="For --task prompts: an answer's length at most.",
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
    help="KV mode to train for, as in play.  [what ladder.toml suggests, else handoff]",
)
@click.option(
    "--also-kv",
    "more_kv",
    type=KV,
    multiple=True,
    metavar="MODE",
    help="A KV mode to evaluate as well.",
)
@click.option("--train-games", type=COUNT, help=f"Games to learn from.  [{TRAIN_GAMES}]")
@click.option(
    "--select-games",
    type=COUNT,
    help=f"Games on which networks and thresholds are chosen.  [{SELECT_GAMES}]",
)
@click.option(
    "--test-games",
    type=COUNT,
    help=f"Games that are played when all is chosen.  [{TEST_GAMES}]",
)
@click.option("--iterations", type=COUNT, help=f"Of GRPO.  [{ITERATIONS}]")
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
@click.option("--jobs", type=JOBS, help=f"Processes.  [{ROUTER_JOBS}; {PROMPT_JOBS} for prompts]")
@click.option(
    "--dask", type=WORD, metavar="ADDRESS", help="Explore on this dask cluster (tcp://host:8786)."
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--official/--no-official",
    default=None,
    help="Evaluate on valid_seen too, where ALFWORLD_DATA has it.  [official]",
)
def router(ladder: LadderChoice, **options: Any) -> None:
    """Train a router: explore, supervise, improve, export, compare.

    collect plays games with every tier and keeps each history; sft teaches
    networks where the tiers disagree; grpo improves them by what it costs and
    wins; export chooses one, sets its dial and writes router.onnx; evaluate
    compares it with everything else. Ctrl-C, a crash or a kill loses the games
    in hand and no other.

    \b
    edge-router train router
    edge-router train router --model my-ladder --run runs/mine --stage collect
    edge-router train router --tier low=a.gguf --tier high=b.gguf --games my-games
    edge-router train router --model my-ladder --task prompts --prompts chats.jsonl
    """
    part = load_part("train.router.commands", extra="train")
    sys.exit(part.run(part.TrainOptions(**asdict(ladder), **options)))
