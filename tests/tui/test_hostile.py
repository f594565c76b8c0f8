"""Texts from files and models are shown in the app and steer neither terminal nor markup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_router.agent.events import EpisodeFinished
from edge_router.agent.trace import Trace
from edge_router.screen.printable import cleaned
from edge_router.tasks.games import GameRef
from tests.recorded import RecordedSession, games, until, won
from tui.apps.compare import CompareApp
from tui.apps.live import LiveApp
from tui.apps.picker import GamePicker
from tui.apps.replay import ReplayApp
from tui.apps.sentences import farewell
from tui.draw.panels import Panel
from tui.draw.transcript import Transcript
from tui.state.screenful import Status

EVIL = "\x1b]0;pwn\x07\x1b[31m\x9b31m\x90q\x9c\n\u202e[/x][bold]"


def hostile() -> Trace:
    """A trace in which every text ends in escape sequences and markup."""
    trace = won()
    tiers = tuple(replace(t, name=t.name + EVIL) for t in trace.started.tiers)
    steps = tuple(
        replace(
            step,
            routed=replace(
                step.routed, reason=step.routed.reason + EVIL, tier=step.routed.tier + EVIL,
                decide_at="draft", draft="> look" + EVIL,
            ),
            finished=replace(
                step.finished, text=step.finished.text + EVIL, action="look" + EVIL,
                observation=EVIL, tier=step.finished.tier + EVIL, draft_action="go" + EVIL,
            ),
        )
        for step in trace.steps
    )  # fmt: skip
    started = replace(
        trace.started, goal=trace.started.goal + EVIL, observation=EVIL, tiers=tiers,
        game=trace.started.game + EVIL, router=trace.started.router + EVIL, kv=EVIL, prompt=EVIL,
    )  # fmt: skip
    return Trace(started, steps, EpisodeFinished(False, 7, "lost" + EVIL), "cut" + EVIL)


def shown(app: ReplayApp | LiveApp) -> str:
    lines = []
    for widget in (*app.screen.query(Panel), *app.screen.query(Transcript)):
        lines += [widget.render_line(y).text for y in range(widget.size.height)]
    lines += [notification.message for notification in app._notifications]
    return "\n".join(lines)


def harmless(text: str) -> bool:
    return not any(
        (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c == "\u202e" for c in text
    )


@pytest.mark.parametrize(
    "size", [(80, 24), pytest.param((120, 40), marks=pytest.mark.slow), (200, 50)]
)
async def test_a_hostile_trace_is_shown_whole(size: tuple[int, int]) -> None:
    for app in (
        ReplayApp([hostile()], paused=True),
        CompareApp([hostile(), won()], ["a" + EVIL, "b"], paused=True),
    ):
        async with app.run_test(size=size) as pilot:
            for key in ("right", "right", "end", "left"):
                await pilot.press(key)
                await pilot.pause()
                assert harmless(shown(app))
                assert "[/x][bold]" in shown(app)
            assert harmless(app.export_screenshot())


async def test_a_hostile_game_and_folder_are_shown_in_the_live_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = hostile()
    started = replace(trace.started, router=won().started.router)  # one that can be made
    session = RecordedSession(replace(trace, started=started))
    session.games = (GameRef(f"look{EVIL}-A-B-C-3/trial", Path("game"), "", "alfworld"), *games())
    monkeypatch.chdir(tmp_path)
    app = LiveApp(session, games()[0], pace=0.0)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.status is Status.ENDED)
        await pilot.press("t", "s")
        assert harmless(shown(app))
        await pilot.press("g")
        assert isinstance(app.screen, GamePicker)
        await pilot.pause()
        assert harmless(app.export_screenshot())
    assert all(map(harmless, farewell(app.episode, 1, 2, [])))


def test_cleaning_changes_no_honest_event() -> None:
    step = won().steps[0]
    for event in (won().started, step.started, step.routed, step.finished, won().finished):
        assert cleaned(event) == event
