"""Options of the commands, and how bad input ends them: one sentence, exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from edge_router.errors import UserError

Command = TypeVar("Command", bound=Callable[..., Any])


class ErrorsInOneSentence(click.Group):
    """Turns bad input into one line on stderr and exit code 2, Ctrl-C into 130."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            code = super().main(*args, **(kwargs | {"standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:  # click itself would add two lines on usage
            _fail(error.format_message(), error.exit_code)
        except UserError as error:
            _fail(str(error), 2)
        except click.Abort:
            _fail("interrupted", 130)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str, code: int) -> NoReturn:
    click.echo(f"edge-router: {sentence}", err=True)
    sys.exit(code)


def _together(options: list[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


pace_option = click.option(
    "--pace",
    type=click.FloatRange(0.0),
    metavar="SECONDS",
    help="How long the app shows a step at least; 0 is full speed.  [1.5]",
)

play_options = _together(
    [
        click.option("--task", default="alfworld", show_default=True, help="The task to play."),
        click.option(
            "--split",
            help="generated (ours, the default), or train, valid_seen, valid_unseen of the "
            "official games in ALFWORLD_DATA (then valid_seen is the default).",
        ),
        click.option("--games", type=click.Path(), help="A folder of games instead of a split."),
        click.option(
            "--game",
            help="INDEX, ID (or its start), or random.  [a game that shows routing, else 0]",
        ),
        click.option(
            "--model",
            help="A model by name (see models list) or a folder with ladder.toml.  [household]",
        ),
        click.option(
            "--tier",
            "tiers",
            multiple=True,
            metavar="NAME=PATH",
            help="A tier's GGUF; once per tier, cheapest first, instead of --model.",
        ),
        click.option(
            "--router",
            default="auto",
            show_default=True,
            help="low, high, tier:NAME, random:P, retry, entropy:T, margin:T, draft:P or "
            "onnx:PATH; auto is what the model's ladder.toml suggests.",
        ),
        click.option(
            "--dial",
            type=click.FloatRange(0.0, 1.0),
            show_default="0.5",
            help="Cost (0) or quality (1); 0.5 leaves thresholds as given.",
        ),
        click.option(
            "--budget",
            type=click.FloatRange(0.0, 1.0),
            metavar="SHARE",
            help="About this share of the steps for dearer tiers (0.15), instead of --dial.",
        ),
        click.option(
            "--kv",
            default="handoff",
            show_default=True,
            help="How a dearer tier gets its KV cache: handoff, handoff:N or exact.",
        ),
        click.option("--max-steps", type=click.IntRange(1), default=50, show_default=True),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
        click.option("--temperature", type=float, default=0.0, show_default="greedy"),
        click.option("--top-p", type=float, default=1.0, show_default=True),
        click.option("--min-p", type=float, default=0.0, show_default=True),
        click.option("--constrain", is_flag=True, help="Limit actions to the admissible commands."),
        click.option("--trace", type=click.Path(), help="Record the episode in this JSONL file."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object a step on stdout."),
        click.option("--plain", is_flag=True, help="Print the run instead of opening the app."),
        pace_option,
        click.option("--threads", type=click.IntRange(1), help="CPU threads.  [physical cores]"),
        click.option(
            "--gpu-layers",
            type=int,
            default=0,
            show_default=True,
            help="Layers on Metal or CUDA, -1 for all; only in a build that has it.",
        ),
        click.option("--ctx", type=click.IntRange(64), help="Context in tokens.  [up to 4096]"),
    ]
)

replay_options = _together(
    [
        click.argument("files", type=click.Path(), nargs=-1, required=True, metavar="FILE [FILE2]"),
        click.option(
            "--speed", type=click.FloatRange(0.0, min_open=True), help="1 is the original pace."
        ),
        click.option(
            "--step", is_flag=True, help="Wait for Enter (in the app: n) before each step."
        ),
        click.option("--json", "as_json", is_flag=True, help="One JSON object a step on stdout."),
        click.option("--plain", is_flag=True, help="Print the run instead of opening the app."),
        pace_option,
    ]
)
