"""What the live app plays: a `Session`, or anything that emits the same events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edge_router.agent.events import EpisodeFinished, Listener
from edge_router.router.steered import SteeredRouter
from edge_router.tasks.games import GameRef


class Playable(Protocol):
    """See `edge_router.agent.session.Session`."""

    games: tuple[GameRef, ...]
    router: SteeredRouter
    dial: float
    phase: str
    traces: list[Path]

    def play(self, game: GameRef, listeners: Sequence[Listener]) -> EpisodeFinished: ...
