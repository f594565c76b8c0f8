"""What the app looks like, at three sizes: SVG snapshots of recorded episodes.

After a change that is meant to be seen: look at the report that pytest names, then
`pytest tests/tui/test_snapshots.py -m "slow or not slow" --snapshot-update`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot

from edge_router.agent.episode import Options
from edge_router.agent.session import Session
from edge_router.engine.ladder import Ladder
from edge_router.engine.tier import TierSpec
from edge_router.router.registry import make_router
from edge_router.tasks.games import GameRef
from tests.recorded import FOREVER, RecordedSession, after_steps, games, not_won, until, won
from tests.watched import answered, busy, recorded
from tui.apps.compare import CompareApp
from tui.apps.live import LiveApp
from tui.apps.replay import ReplayApp
from tui.state.screenful import Status

SIZES = {"80x24": (80, 24), "120x40": (120, 40), "200x50": (200, 50)}
SnapCompare = Callable[..., bool]
Before = Callable[[Pilot[int]], Awaitable[None]]


# The size between the two is drawn fast in the tests of a single size, at the end.
MIDDLE = pytest.param(SIZES["120x40"], marks=pytest.mark.slow)


@pytest.fixture(params=[SIZES["80x24"], MIDDLE, SIZES["200x50"]], ids=list(SIZES))
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    given: tuple[int, int] = request.param
    return given


def live(session: RecordedSession | None = None) -> LiveApp:
    return LiveApp(session or RecordedSession(), games()[0], pace=FOREVER)


def test_running(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[int]) -> None:
        await after_steps(pilot, 4)
        await pilot.press("space")

    assert snap_compare(live(), terminal_size=size, run_before=before)


def test_text_streams_in(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    app = ReplayApp([won()], paused=True)

    async def before(pilot: Pilot[int]) -> None:
        app.seek(app.timelines[0].end_of(2))
        step = app.timelines[0]
        while len(step.episode.current.text if step.episode.current else "") < 20 or (
            step.episode.current is not None and step.episode.current.number < 3
        ):
            app.seek(app.position + 0.01)
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=before)


def test_paused(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[int]) -> None:
        await after_steps(pilot, 3)

    assert snap_compare(live(), terminal_size=size, run_before=before)


def test_forced_tier(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[int]) -> None:
        await after_steps(pilot, 1)
        await pilot.press("h")
        await after_steps(pilot, 1)
        await pilot.press("l", "left", "left")
        pilot.app.clear_notifications()  # the dial's answer goes after some seconds
        await pilot.pause()

    assert snap_compare(live(), terminal_size=size, run_before=before)


def test_won(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[int]) -> None:
        app = await after_steps(pilot, 7)
        await until(pilot, lambda: app.status is Status.ENDED)

    assert snap_compare(live(), terminal_size=size, run_before=before)


def test_lost(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[int]) -> None:
        app = await after_steps(pilot, 4)
        await until(pilot, lambda: app.status is Status.ENDED)

    session = RecordedSession(not_won())
    assert snap_compare(live(session), terminal_size=size, run_before=before)


async def failed(pilot: Pilot[int]) -> None:
    app = pilot.app
    assert isinstance(app, LiveApp)
    await until(pilot, lambda: app.status is Status.FAILED)


def test_model_file_vanished(
    snap_compare: SnapCompare,
    size: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # so that the sentence names no folder of this machine
    load = partial(Ladder.load, [TierSpec("q4_k_m", Path("models/household-q4_k_m.gguf"))])
    session = Session(games(), load, make_router("low"), Options())
    app = LiveApp(session, games()[0], pace=0)
    assert snap_compare(app, terminal_size=size, run_before=failed)


def test_task_failed(
    snap_compare: SnapCompare,
    size: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("games/pick_heat_then_place_in_recep-Egg-None-Fridge-1/trial_1/game.tw-pddl")
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    game = GameRef("pick_heat_then_place_in_recep-Egg-None-Fridge-1/trial_1", path, "", "alfworld")
    session = Session([game], lambda: pytest.fail("loads"), make_router("low"), Options())
    app = LiveApp(session, game, pace=0)
    assert snap_compare(app, terminal_size=size, run_before=failed)


def test_side_by_side(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    app = CompareApp([won(), not_won()], ["routed.jsonl", "short.jsonl"], paused=True)

    async def before(pilot: Pilot[int]) -> None:
        for _ in range(5):
            await pilot.press("right")

    assert snap_compare(app, terminal_size=size, run_before=before)


def test_server(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[int]) -> None:
        await answered(pilot, 6)

    assert snap_compare(recorded(busy()), terminal_size=size, run_before=before)


def test_server_with_one_conversation_held(
    snap_compare: SnapCompare, size: tuple[int, int]
) -> None:
    async def before(pilot: Pilot[int]) -> None:
        await answered(pilot, 6)
        await pilot.press("c", "c", "c", "left_square_bracket")
        pilot.app.clear_notifications()  # the key's answer goes after some seconds
        await pilot.pause()

    assert snap_compare(recorded(busy()), terminal_size=size, run_before=before)


@pytest.mark.parametrize("keys", [["question_mark"], ["g"]], ids=["help", "picker"])
def test_screens_over_it(snap_compare: SnapCompare, keys: list[str]) -> None:
    async def before(pilot: Pilot[int]) -> None:
        await after_steps(pilot, 2)
        await pilot.press(*keys)

    assert snap_compare(live(), terminal_size=(120, 40), run_before=before)


def test_on_a_light_theme(snap_compare: SnapCompare) -> None:
    async def before(pilot: Pilot[int]) -> None:
        await after_steps(pilot, 4)
        await pilot.press("d")

    assert snap_compare(live(), terminal_size=(120, 40), run_before=before)
