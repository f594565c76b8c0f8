"""Recorded episodes for the tests of the app: the same events, the same figures, every time.

`tests/traces/won.jsonl` is a real run of a household model on three tiers, made when the features
had an earlier schema: those it lacks are 0, and the routers here read none of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from textual.pilot import Pilot

from edge_router.agent.events import EpisodeFinished, Event, Listener, Routed, StepFinished
from edge_router.agent.trace import Trace, read_trace, replay
from edge_router.router.base import Features
from edge_router.router.feature_table import NAMES, SCHEMA
from edge_router.router.registry import make_router
from edge_router.router.steered import SteeredRouter
from edge_router.tasks.alfworld.game_files import split_games
from edge_router.tasks.games import GameRef
from tui.apps.live import LiveApp
from tui.state.screenful import Status

TRACES = Path(__file__).parent / "traces"
FOREVER = 1000.0  # seconds: a pace that holds the player until a test lets it go


@cache
def won() -> Trace:
    """A game won in seven steps, three of them escalated."""
    trace = read_trace(TRACES / "won.jsonl")
    # Recorded before traces held the size of a KV cache; this is what it took.
    tiers = tuple(replace(tier, kv_bytes=3_145_728) for tier in trace.started.tiers)
    return replace(trace, started=replace(trace.started, tiers=tiers))


@cache
def not_won() -> Trace:
    """The same game, cut off by a limit of four steps, the last command refused."""
    trace = won()
    steps = list(trace.steps[:4])
    refused = replace(steps[-1].finished, observation="Nothing happens.", refused=True)
    steps[-1] = replace(steps[-1], finished=refused)
    tiers = [step.finished.tier for step in steps]
    finished = EpisodeFinished(
        won=False,
        steps=4,
        reason="out of steps",
        steps_by_tier={name: tiers.count(name) for name in trace.finished.steps_by_tier}
        if trace.finished
        else {},
        refused=1,
    )
    return Trace(replace(trace.started, max_steps=4), tuple(steps), finished)


@cache
def games() -> tuple[GameRef, ...]:
    """The shipped games."""
    return tuple(split_games("generated"))


class RecordedSession:
    """A session whose text and times are recorded and whose router is real, and may be steered."""

    def __init__(self, trace: Trace | None = None) -> None:
        self.trace = trace or won()
        self.games = games()
        self.router = SteeredRouter(make_router(self.trace.started.router))
        self.dial = 0.5
        self.phase = ""
        self.traces: list[Path] = []
        self.played: list[GameRef] = []

    def play(self, game: GameRef, listeners: Sequence[Listener]) -> EpisodeFinished:
        self.played.append(game)
        self.router.reset(tuple(tier.name for tier in self.trace.started.tiers), 0)
        self._routed: Routed | None = None

        def tell(event: Event) -> None:
            steered = self._steered(event)
            for listener in listeners:
                listener(steered)

        try:
            replay(self.trace, [tell])
        except KeyboardInterrupt:
            finished = EpisodeFinished(False, 0, "interrupted")
            for listener in listeners:
                listener(finished)
            return finished
        assert self.trace.finished is not None
        return self.trace.finished

    def _steered(self, event: Event) -> Event:
        if isinstance(event, Routed):
            self._routed = self._decided(event)
            return self._routed
        if isinstance(event, StepFinished) and self._routed is not None:
            return replace(event, tier=self._routed.tier, tier_index=self._routed.tier_index)
        return event

    def _decided(self, event: Routed) -> Routed:
        features = event.features | {"dial": self.dial}
        vector = np.array([features.get(name, 0.0) for name in NAMES], np.float32)
        decision = self.router.decide(Features(SCHEMA, NAMES, vector))
        return replace(
            event,
            tier=self.trace.started.tiers[decision.tier].name,
            tier_index=decision.tier,
            reason=decision.reason,
            score=decision.score,
            thresholds=decision.thresholds,
            forced=decision.forced,
            features=features,
        )


async def until(pilot: Pilot[int], condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Let the app work until `condition()` holds; fails after `seconds`."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "the app did not get there"
        await pilot.pause(0.02)
    await pilot.pause()


async def after_steps(pilot: Pilot[int], count: int) -> LiveApp:
    """Take `count` more steps with the key for one, and wait for each."""
    app = pilot.app
    assert isinstance(app, LiveApp)
    await until(pilot, lambda: app.status is not Status.LOADING)
    before = len(app.episode.done_steps)
    for number in range(before + 1, before + count + 1):
        await pilot.press("n")
        await until(pilot, lambda: len(app.episode.done_steps) >= number)  # noqa: B023
    return app
