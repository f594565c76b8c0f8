"""`edge-router completion`: the script that teaches a shell our commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from edge_router.errors import UserError

VARIABLE = "_EDGE_ROUTER_COMPLETE"  # click looks for it when the command is called


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Completes commands, options and the names of models, games, splits, routers
    and tasks. Load it at the start of each shell:

    \b
    bash   eval "$(edge-router completion bash)"                in ~/.bashrc
    zsh    eval "$(edge-router completion zsh)"                 in ~/.zshrc, after compinit
    fish   edge-router completion fish | source                 in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise UserError(f"this version of click completes nothing in {shell}")
    made = kind(ctx.find_root().command, {}, "edge-router", VARIABLE)
    click.echo(click.shell_completion.ShellComplete.source(made))
