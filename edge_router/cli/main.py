"""The `edge-router` command.

Options are declared here and in `cli_options`; the work is done by the
libraries below, which are imported when a command runs: `--help` loads neither
llama.cpp nor onnxruntime nor the game engine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_router.cli.bench import bench, calibrate, doctor, report
from edge_router.cli.completion import completion
from edge_router.cli.config import PREFIX, config, read_defaults
from edge_router.cli.convert import convert
from edge_router.cli.endings import OneSentence
from edge_router.cli.models import models
from edge_router.cli.options import pace_option, play_options, replay_options
from edge_router.cli.train import train
from edge_router.cli.types import COUNT, FILE, SEED, SPLIT
from edge_router.errors import UserError

if TYPE_CHECKING:
    from edge_router.tasks.alfworld.generate import Drawn


def _show_version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from edge_router.engine.library import build_line, packages_line

    try:
        line = build_line()
    except UserError:
        line = f"{packages_line()}, llama.cpp cannot be loaded (edge-router doctor says why)"
    click.echo(line)
    ctx.exit()


@click.group(
    cls=OneSentence,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": PREFIX,
    },
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    allow_from_autoenv=False,
    callback=_show_version,
    help="Show versions and what llama.cpp was compiled with, and exit.",
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Run an LLM agent at the precision that each step needs, no more.

    \b
    edge-router play --task alfworld            one episode on the embedded model
    edge-router play --router high --trace e.jsonl
    edge-router replay e.jsonl                  the same episode again, without a model
    """
    ctx.default_map = read_defaults(ctx)


@main.command()
@play_options
def play(**options: Any) -> None:
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
    from edge_router.cli.play import run

    sys.exit(run(**options))


main.add_command(convert)


@main.command()
@replay_options
def replay(files: tuple[Path, ...], **options: Any) -> None:
    """Play a trace back without a model; on a terminal in the app.

    \b
    edge-router replay episode.jsonl              watch it, go back and forth
    edge-router replay low.jsonl routed.jsonl     two runs of a game, side by side
    edge-router replay episode.jsonl --plain      print it
    edge-router replay episode.jsonl --speed 1    as fast as it was played
    edge-router replay episode.jsonl --step       one step each time you press a key
    """
    from edge_router.cli.replay import run

    sys.exit(run(files, **options))


@main.command()
@click.option("--plain", is_flag=True, help="Print the routed run instead of opening the app.")
@pace_option
def demo(plain: bool, pace: float | None) -> None:
    """Show two recorded runs of one game side by side, without loading a model.

    On the left the low tier alone, which does not win; on the right the router,
    which gives one step to the high tier.

    \b
    edge-router demo
    """
    from edge_router.cli.demo import run

    sys.exit(run(plain=plain, pace=pace))


@main.group()
def games() -> None:
    """List games, or generate new ones."""


@games.command("list")
@click.option("--split", type=SPLIT, help="generated, train, valid_seen or valid_unseen.")
@click.option("--games", "folder", type=FILE, help="A folder of games instead of a split.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a game.")
def list_games(split: str | None, folder: Path | None, as_json: bool) -> None:
    """List the games of a split with their index, task type and id.

    \b
    edge-router games list --split train
    """
    from edge_router.screen.printable import columns, say, wrapped
    from edge_router.tasks.alfworld.game_files import games_of

    width = columns()
    found = games_of(folder, split)
    for index, game in enumerate(found.games):
        if as_json:
            click.echo(json.dumps({"index": index, "id": game.id, "kind": game.kind}))
        else:
            indent = f"{index:5d}  "
            for_screen = width and wrapped(game.id, width, indent=indent, hanging=" " * len(indent))
            say("\n".join(for_screen or [f"{indent}{game.kind:32}{game.id}"]))
    if found.note:
        say(found.note, err=True)


@games.command()
@click.option("--count", type=COUNT, default=60, show_default=True, help="How many games.")
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="The same seed, the same games."
)
@click.option("--out", type=FILE, required=True, help="A new or empty folder.")
def generate(count: int, seed: int, out: Path) -> None:
    """Generate ALFWorld games, each proven solvable on the real engine.

    All six task types in turn; about 3 seconds a game. Play them with --games.

    \b
    edge-router games generate --count 100 --seed 7 --out my-games
    edge-router play --games my-games --game random
    """
    from edge_router.tasks.alfworld.generate import generate_games

    def tell(drawn: Drawn) -> None:
        click.echo(f"{drawn.done}/{drawn.count}  {drawn.game.id}  ({drawn.steps} steps)", err=True)

    made = generate_games(count, seed, out, tell)
    click.echo(f"{len(made)} games in {out}")


main.add_command(models)


for command in (bench, calibrate, completion, config, doctor, report, train):
    main.add_command(command)


if __name__ == "__main__":
    main()
