"""Choose what a command shows: the app on a terminal, else the episode printed, or as JSON."""

from __future__ import annotations

import os
import sys

from edge_router.agent.events import Listener
from edge_router.agent.json_printer import JsonPrinter
from edge_router.agent.printer import PlainPrinter
from edge_router.costs import CostProfile


def opens_app(*, as_json: bool, plain: bool) -> bool:
    """Whether the app is to be opened: nothing else was asked for, and a person sits there.

    The app draws on stderr and reads keys from stdin, so all three must be the terminal.
    """
    if as_json or plain or os.environ.get("TERM") in ("dumb", "", None):
        return False
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def stdout_printer(*, as_json: bool, profile: CostProfile | None = None) -> Listener:
    """JSON lines, or text as the terminal likes it; `profile`: how fast this machine was."""
    return JsonPrinter(sys.stdout, profile=profile) if as_json else PlainPrinter(profile=profile)
