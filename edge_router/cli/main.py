"""The `edge-router` command.

Each command has a module of its own; the work is done by the libraries below, which are
imported when a command runs: `--help` loads neither llama.cpp nor onnxruntime nor the game engine.
"""

from __future__ import annotations

import click

from edge_router.cli.bench import bench
from edge_router.cli.calibrate import calibrate
from edge_router.cli.completion import completion
from edge_router.cli.config import PREFIX, config, read_defaults
from edge_router.cli.convert import convert
from edge_router.cli.demo import demo
from edge_router.cli.doctor import doctor
from edge_router.cli.endings import OneSentence
from edge_router.cli.games import games
from edge_router.cli.models import models
from edge_router.cli.play import play
from edge_router.cli.replay import replay
from edge_router.cli.report import report
from edge_router.cli.train import train
from edge_router.errors import UserError


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


for command in (
    play,
    convert,
    replay,
    demo,
    games,
    models,
    bench,
    calibrate,
    completion,
    config,
    doctor,
    report,
    train,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
