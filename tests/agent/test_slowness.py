"""A run whose tokens come far slower than they could says so, once."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest

from edge_router.agent.events import EpisodeStarted, Event, Latency, StepFinished
from edge_router.agent.listeners.json_printer import JsonPrinter
from edge_router.agent.listeners.printer import PlainPrinter
from edge_router.agent.listeners.slowness import SpeedWatch, sentence
from edge_router.ladders.costs import CostProfile, TierCost
from tests.recorded import FOREVER, RecordedSession, after_steps, games, until, won
from tests.sample_episode import STARTED, step_events, tell
from tui.apps.live import LiveApp
from tui.state.screenful import Status


def run(ms_per_token: Sequence[float], tokens: int = 20) -> list[Event]:
    """An episode in which the low tier writes each step at such a speed."""
    events: list[Event] = [STARTED]
    for step, each in enumerate(ms_per_token):
        for event in step_events(step, "> look", "look"):
            if isinstance(event, StepFinished):
                event = replace(event, latency=Latency(decode_ms=each * tokens, decode_tokens=20))
            events.append(event)
    return events


def notes(events: list[Event], profile: CostProfile | None = None) -> list[str]:
    watch = SpeedWatch(profile)
    return [note for note in map(watch, events) if note]


def measured(ms: float, size: int | None = None, of: EpisodeStarted = STARTED) -> CostProfile:
    """What calibrate found: tokens that take so long."""
    costs = [
        TierCost(tier.name, size or tier.size_bytes, (1,), (0,), ((0.001,),), (ms / 1000,))
        for tier in of.tiers
    ]
    return CostProfile("household", "", tuple(costs), 0.0, 0.0, 2)


@pytest.mark.parametrize(
    ("speeds", "said"),
    [
        ([10, 10, 10, 10], []),
        ([10, 90, 100, 110], [sentence(10)]),
        ([10, 90, 100, 110, 100, 100], [sentence(10)]),  # once
        ([10, 100, 100, 10, 100, 100], []),  # not in a row
        ([10, 39, 39, 39], []),  # not far slower
        ([0.1, 5, 5, 5], []),  # nobody waits for that
        ([100, 100, 100], []),  # nothing to compare with
    ],
)
def test_it_is_compared_with_the_best_of_the_run(speeds: list[float], said: list[str]) -> None:
    assert notes(run(speeds)) == said


def test_a_calibrated_machine_is_compared_with_what_was_measured() -> None:
    assert notes(run([100, 100, 100]), measured(10)) == [sentence(10)]
    assert notes(run([30, 30, 30]), measured(10)) == []
    assert notes(run([100, 100, 100]), measured(10, size=7)) == []  # of another ladder


def test_a_new_episode_begins_anew() -> None:
    assert notes([*run([10, 100, 100, 100]), *run([10, 100, 100, 100])]) == [sentence(10)] * 2


def test_the_printed_run_says_it_once() -> None:
    file, out, err = io.StringIO(), io.StringIO(), io.StringIO()
    tell(PlainPrinter(file), run([10, 100, 100, 100, 100]))
    assert file.getvalue().count(f"\n(note: {sentence(10)})\n") == 1
    tell(JsonPrinter(out, err), run([10, 100, 100, 100, 100]))
    assert err.getvalue().splitlines()[-1] == sentence(10)
    assert "other programs" not in out.getvalue()


async def test_the_app_shows_it_as_a_line_of_its_own() -> None:
    steps = [
        replace(step, finished=replace(step.finished, latency=Latency(
            decode_ms=2000.0, decode_tokens=10)))
        for step in won().steps
    ]  # fmt: skip
    session = RecordedSession(replace(won(), steps=tuple(steps)))
    profile = measured(10, of=won().started)
    app = LiveApp(session, games()[0], pace=FOREVER, profile=profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await after_steps(pilot, 1)
        assert not app.query_one("#note").display
        app.player.pace, app.player.paused = 0.0, False
        await until(pilot, lambda: app.status is Status.ENDED)
        await pilot.pause()
        assert app.query_one("#note").render_line(0).text.strip() == f"! {sentence(20)}"
