"""Options of `play` and `replay`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from edge_router.cli.config import yields_to
from edge_router.cli.types import (
    CONTEXT,
    FILE,
    GAME,
    KV,
    LAYERS,
    MODEL,
    PACE,
    REAL,
    ROUTER,
    SEED,
    SHARE,
    SPEED,
    SPLIT,
    STEPS,
    TASK,
    TEXT,
    THREADS,
)

Command = TypeVar("Command", bound=Callable[..., Any])


def _together(options: list[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


pace_option = click.option(
    "--pace",
    type=PACE,
    metavar="SECONDS",
    help="How long the app shows a step at least; 0 is full speed.  [1.5]",
)

play_options = _together(
    [
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
            help="A folder of games instead of a split.",
        ),
        click.option(
            "--game",
            type=GAME,
            help="INDEX, ID (or its start), or random.  [a game that shows routing, else 0]",
        ),
        click.option(
            "--model",
            type=MODEL,
            callback=yields_to("tiers"),
            help="A model by name (see models list) or a folder with ladder.toml.  [household]",
        ),
        click.option(
            "--tier",
            "tiers",
            type=TEXT,
            callback=yields_to("model"),
            multiple=True,
            metavar="NAME=PATH",
            help="A tier's GGUF; once per tier, low to high, instead of --model.",
        ),
        click.option(
            "--router",
            type=ROUTER,
            default="auto",
            show_default=True,
            help="low, high, tier:NAME, random:P, retry, entropy:T, margin:T, draft:P or "
            "onnx:PATH; auto is what the model's ladder.toml suggests.",
        ),
        click.option(
            "--dial",
            type=SHARE,
            callback=yields_to("budget"),
            show_default="0.5",
            help="Cost (0) or quality (1); 0.5 leaves thresholds as given.",
        ),
        click.option(
            "--budget",
            type=SHARE,
            callback=yields_to("dial"),
            metavar="SHARE",
            help="Escalate about this share of the steps (0.15), instead of --dial.",
        ),
        click.option(
            "--kv",
            type=KV,
            default="handoff",
            show_default=True,
            help="How a higher tier gets its KV cache: handoff, handoff:N or exact.",
        ),
        click.option("--max-steps", type=STEPS, default=50, show_default=True),
        click.option("--seed", type=SEED, default=0, show_default=True),
        click.option("--temperature", type=REAL, default=0.0, show_default="greedy"),
        click.option("--top-p", type=REAL, default=1.0, show_default=True),
        click.option("--min-p", type=REAL, default=0.0, show_default=True),
        click.option("--constrain", is_flag=True, help="Limit actions to the admissible commands."),
        click.option("--trace", type=FILE, help="Record the episode in this JSONL file."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object a step on stdout."),
        click.option("--plain", is_flag=True, help="Print the run instead of opening the app."),
        pace_option,
        click.option("--threads", type=THREADS, help="CPU threads.  [follows the machine]"),
        click.option(
            "--gpu-layers",
            type=LAYERS,
            default=0,
            show_default=True,
            help="Layers on Metal or CUDA, -1 for all; only in a build that has it.",
        ),
        click.option("--ctx", type=CONTEXT, help="Context in tokens.  [up to 4096]"),
    ]
)

replay_options = _together(
    [
        click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE [FILE2]"),
        click.option("--speed", type=SPEED, help="1 is the original pace."),
        click.option(
            "--step", is_flag=True, help="Wait for Enter (in the app: n) before each step."
        ),
        click.option("--json", "as_json", is_flag=True, help="One JSON object a step on stdout."),
        click.option("--plain", is_flag=True, help="Print the run instead of opening the app."),
        pace_option,
    ]
)
