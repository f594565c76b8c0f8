"""Walk the command line's own tree of commands, so that tests miss no command added later."""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.testing import CliRunner

from edge_router.cli.config import commands_of
from edge_router.cli.main import main


def command_paths() -> list[str]:
    """Every command ("", "play", "games generate", ...), groups included."""

    def walk(command: click.Command, path: str) -> Iterator[str]:
        yield path
        if isinstance(command, click.Group):
            for name, child in commands_of(command, click.Context(command)):
                if not child.hidden:
                    yield from walk(child, f"{path} {name}".strip())

    return list(walk(main, ""))


def parameters() -> Iterator[click.Parameter]:
    """The options and arguments of every command."""

    def walk(command: click.Command) -> Iterator[click.Parameter]:
        yield from command.params
        if isinstance(command, click.Group):
            for _, child in commands_of(command, click.Context(command)):
                yield from walk(child)

    return walk(main)


def run_help(path: str) -> str:
    """The help text of one command, produced in this process."""
    result = CliRunner().invoke(main, [*path.split(), "--help"], prog_name="edge-router")
    assert result.exit_code == 0, result.output
    return result.output
