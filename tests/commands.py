"""Walk the command line's own tree of commands, so that tests miss no command added later."""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.testing import CliRunner

from edge_router import cli


def root() -> click.Group:
    """The `edge-router` command with all of its subcommands."""
    found = [value for value in vars(cli).values() if isinstance(value, click.Group)]
    children = {id(command) for group in found for command in group.commands.values()}
    (top,) = (group for group in found if id(group) not in children)
    return top


def command_paths() -> list[str]:
    """Every command ("", "play", "games generate", ...), groups included."""

    def walk(command: click.Command, path: str) -> Iterator[str]:
        yield path
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                if not child.hidden:
                    yield from walk(child, f"{path} {name}".strip())

    return list(walk(root(), ""))


def run_help(path: str) -> str:
    """The help text of one command, produced in this process."""
    result = CliRunner().invoke(root(), [*path.split(), "--help"], prog_name="edge-router")
    assert result.exit_code == 0, result.output
    return result.output
