"""The `edge-router` command.

Each command has a module of its own; the work is done by the libraries below, which are
imported when a command runs: `--help` loads neither llama.cpp nor onnxruntime nor the game engine.
"""

from __future__ import annotations

from importlib import import_module

import click

from edge_router.cli.config import PREFIX, read_defaults
from edge_router.cli.endings import OneSentence
from edge_router.errors import UserError

COMMANDS = (
    *("advise", "bench", "calibrate", "completion", "config", "convert", "demo", "doctor", "games"),
    *("models", "play", "replay", "report", "serve", "train"),
)


class Commands(OneSentence):
    """The commands, each imported when it is asked for: a sixth of the time until `play` begins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = getattr(import_module(f"edge_router.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command


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
    cls=Commands,
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


if __name__ == "__main__":
    main()
