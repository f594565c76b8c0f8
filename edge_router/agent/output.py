"""Choose what a command writes on stdout: the episode for people, or for programs."""

from __future__ import annotations

import sys

from edge_router.agent.events import Listener
from edge_router.agent.json_printer import JsonPrinter
from edge_router.agent.printer import PlainPrinter


def stdout_printer(*, as_json: bool, plain: bool) -> Listener:
    """JSON lines, or text: without colour if `plain`, else as the terminal likes it."""
    return JsonPrinter(sys.stdout) if as_json else PlainPrinter(colour=False if plain else None)
