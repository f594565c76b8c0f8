"""Choose what a command shows: the app on a terminal, else the episode printed, or as JSON."""

from __future__ import annotations

import os
import sys

from edge_router.agent.events import Listener
from edge_router.agent.listeners.json_printer import JsonPrinter
from edge_router.agent.listeners.printer import PlainPrinter
from edge_router.ladders.costs import CostProfile
from edge_router.screen.printable import shows

_DRAWN_WITH = "\u2502\u2588\u256d\u2026"  # some of the app's lines and bars


def opens_app(*, as_json: bool, plain: bool) -> bool:
    """Whether the app is to be opened: nothing else was asked for, and a person sits there.

    The app draws on stderr and reads keys from stdin, so all three must be the terminal.
    """
    if as_json or plain or not _on_terminal():
        return False
    if lacking := app_lacks():
        sys.stderr.write(f"the app needs {lacking}; the run is printed instead\n")
    return not lacking


def app_lacks() -> str:
    """What the app would need to be opened here; "" where it can be."""
    if not _on_terminal():
        return "a terminal that it may draw on and read keys from"
    if shows(sys.stderr, _DRAWN_WITH):
        return ""
    is_set = f"this one is set to {sys.stderr.encoding}"
    return f"a terminal that shows UTF-8, and {is_set} (set LC_ALL=C.UTF-8)"


def _on_terminal() -> bool:
    streams = (sys.stdin, sys.stdout, sys.stderr)
    drawable = os.environ.get("TERM") not in ("dumb", "", None)
    return drawable and all(stream.isatty() for stream in streams)


def stdout_printer(*, as_json: bool, profile: CostProfile | None = None) -> Listener:
    """JSON lines, or text as the terminal likes it; `profile`: how fast this machine was."""
    return JsonPrinter(sys.stdout, profile=profile) if as_json else PlainPrinter(profile=profile)
