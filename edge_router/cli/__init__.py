"""The commands, a module each: options in, exit codes out."""

from edge_router.cli.main import main

__all__ = ["main"]
