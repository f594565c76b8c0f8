"""An app that closes may be told to draw once more, when its panels are gone already."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.recorded import FOREVER, RecordedSession, after_steps, games, not_won, until, won
from tui.apps.compare import CompareApp
from tui.apps.frame import Frame
from tui.apps.live import LiveApp
from tui.apps.replay import ReplayApp, ReplayScreen
from tui.state.screenful import Status

APPS: dict[str, Callable[[], Frame]] = {
    "live": lambda: LiveApp(RecordedSession(), games()[0], pace=FOREVER),
    "replay": lambda: ReplayApp([won()], paused=True),
    "compare": lambda: CompareApp([won(), not_won()], ["a", "b"], paused=True),
}


@pytest.mark.parametrize("which", APPS)
async def test_a_screen_without_its_panels_is_drawn_in_silence(which: str) -> None:
    app = APPS[which]()
    async with app.run_test() as pilot:
        if isinstance(app, LiveApp):
            await after_steps(pilot, 2)
        await app.screen.query("*").remove()
        app.show()
        app.show(text_only=True)
        await pilot.pause()


async def test_a_replay_within_a_game_is_drawn_in_silence_while_it_closes() -> None:
    app = LiveApp(RecordedSession(), games()[0], pace=0.0)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.status is Status.ENDED)
        await pilot.press("v")
        screen = app.screen
        assert isinstance(screen, ReplayScreen)
        await screen.query("*").remove()
        screen.seek(screen.length)
        await pilot.press("v")
        screen.show()
        assert len(app.screen_stack) == 1
