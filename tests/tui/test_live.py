"""The live app under its keys: on recorded episodes, and on the real embedded model and engine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.widgets import Input, OptionList

from edge_router.agent.episode import Options
from edge_router.agent.session import Session
from edge_router.agent.trace import read_trace
from edge_router.engine.ladder import Ladder
from edge_router.engine.tier import TierSpec
from edge_router.ladders.resolve import find_ladder
from edge_router.router.registry import make_router
from tests.recorded import FOREVER, RecordedSession, after_steps, games, until
from tui.apps.frame import Frame
from tui.apps.help import HelpScreen
from tui.apps.listening import ListeningApp
from tui.apps.live import LiveApp
from tui.apps.picker import GamePicker
from tui.apps.server import ServerApp
from tui.draw.panels import KeyBar, PrecisionStrip, SoFar
from tui.draw.transcript import Transcript
from tui.state.screenful import Status

LOW, HIGH = (spec.name for spec in find_ladder("household").tiers)
SHORT_GAME = 28  # won in seven steps by the embedded model


def live(session: RecordedSession | None = None, pace: float = FOREVER) -> LiveApp:
    return LiveApp(session or RecordedSession(), games()[SHORT_GAME], pace=pace)


def embedded(trace: Path | None = None, router: str = "entropy:0.002", steps: int = 50) -> Session:
    """The real thing: embedded model, llama.cpp, ALFWorld's engine."""
    load = partial(Ladder.load, find_ladder("household").tiers, n_ctx=1024, n_threads=1)
    return Session(games(), load, make_router(router), Options(max_steps=steps), trace)


def shown(app: LiveApp, selector: str) -> str:
    """What a panel draws, as plain text."""
    widget = app.query_one(selector)
    lines = (widget.render_line(y) for y in range(widget.size.height))
    return "\n".join(strip.text.rstrip() for strip in lines)


async def test_the_real_model_wins_a_real_game_and_the_trace_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "episode.jsonl"
    with embedded(path) as session:
        app = LiveApp(session, games()[SHORT_GAME], pace=0.0)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.status is Status.ENDED)
            assert "Won in" in shown(app, "#head")
            assert "1 of 1 game won" in shown(app, "#sofar")
            assert "> " in shown(app, "#transcript")
            app.finish_work()
    trace = read_trace(path)
    assert trace.finished is not None
    assert trace.finished.won
    assert [s.finished for s in trace.steps] == app.episode.done_steps
    assert all(s.routed.thresholds == pytest.approx((0.002,)) for s in trace.steps)


async def test_forced_tiers_and_a_restart_on_the_real_model(tmp_path: Path) -> None:
    path = tmp_path / "episode.jsonl"
    with embedded(path, "low", steps=6) as session:
        app = LiveApp(session, games()[SHORT_GAME], pace=FOREVER)
        async with app.run_test(size=(80, 24)) as pilot:
            await after_steps(pilot, 1)
            await pilot.press("h")
            await after_steps(pilot, 1)
            await pilot.press("2")
            await after_steps(pilot, 1)
            await pilot.press("r")
            await until(pilot, lambda: app.episode.started is not None and not app.episode.steps)
            app.finish_work()
    first, second = read_trace(path), read_trace(tmp_path / "episode-2.jsonl")
    assert [(s.finished.tier, s.routed.forced) for s in first.steps] == [
        *((LOW, False), (HIGH, True), (HIGH, True))
    ]
    assert first.finished is not None
    assert first.finished.reason == "interrupted"
    assert second.finished is not None
    assert second.finished.reason == "interrupted"


async def test_quitting_in_mid_game_leaves_a_whole_trace(tmp_path: Path) -> None:
    path = tmp_path / "episode.jsonl"
    with embedded(path) as session:
        app = LiveApp(session, games()[SHORT_GAME], pace=FOREVER)
        async with app.run_test() as pilot:
            await after_steps(pilot, 2)
            await pilot.press("q")
            await until(pilot, lambda: not app.is_running)
        app.finish_work()
    trace = read_trace(path)
    assert trace.note == ""
    assert trace.finished is not None
    assert (trace.finished.reason, len(trace.steps)) == ("interrupted", 2)
    assert app.return_code == 0


async def test_a_model_file_that_vanished_is_shown_and_another_try_is_possible(
    tmp_path: Path,
) -> None:
    gone = [TierSpec("q4_k_m", tmp_path / "gone.gguf")]
    specs = find_ladder("household").tiers
    tries = iter((gone, specs))

    def load() -> Ladder:
        return Ladder.load(next(tries), n_ctx=1024, n_threads=1)

    with Session(games(), load, make_router("low"), Options(max_steps=2)) as session:
        app = LiveApp(session, games()[SHORT_GAME], pace=0.0)
        async with app.run_test() as pilot:
            await until(pilot, lambda: app.status is Status.FAILED)
            assert "gone.gguf" in shown(app, "#transcript").replace("\n", "")
            await pilot.press("r")
            await until(pilot, lambda: app.status is Status.ENDED)
            assert app.failure is None
            app.finish_work()


async def test_space_pauses_and_goes_on() -> None:
    app = live()
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.status is Status.RUNNING)
        await pilot.press("space")
        assert app.status is Status.PAUSED
        app.player.pace = 0.0
        await pilot.pause(0.3)
        assert not app.episode.steps
        await pilot.press("space")
        await until(pilot, lambda: app.status is Status.ENDED)


async def test_a_forced_tier_is_shown_taken_back_and_ignored_where_there_is_none() -> None:
    app = live()
    async with app.run_test() as pilot:
        await after_steps(pilot, 1)
        await pilot.press("h")
        assert "forced by you" in shown(app, "#head")
        await pilot.press("a", "9")
        assert app.session.router.forced is None
        await after_steps(pilot, 1)
        assert app.episode.steps[1].routed is not None
        assert not app.episode.steps[1].routed.forced


async def test_the_dial_changes_who_writes() -> None:
    app = live()
    async with app.run_test() as pilot:
        await after_steps(pilot, 1)
        await pilot.press(*["right"] * 10)
        assert app.session.dial == 1.0
        await after_steps(pilot, 1)
        await pilot.press(*["left"] * 20)
        assert app.session.dial == 0.0
        await after_steps(pilot, 1)
        assert [s.tier for s in app.episode.steps] == [0, 2, 0]


async def test_a_click_on_the_dial_sets_it_and_one_on_a_key_presses_it() -> None:
    app = live()
    async with app.run_test(size=(120, 40)) as pilot:
        await after_steps(pilot, 1)
        await pilot.click(SoFar, offset=(2 + 10 + 5, 2))
        assert app.session.dial == 0.0
        await pilot.click(KeyBar, offset=(17, 0))
        await until(pilot, lambda: len(app.episode.done_steps) == 2)


async def test_the_pace_has_notches() -> None:
    app = live(pace=1.5)
    async with app.run_test() as pilot:
        await pilot.press("space", "minus")
        assert app.player.pace == 3.0
        await pilot.press(*["plus"] * 9)
        assert app.player.pace == 0.0
        assert "full speed" in shown(app, "#sofar") or app.size.height < 30


async def test_a_game_is_picked_by_typing_and_games_count() -> None:
    session = RecordedSession()
    app = live(session, pace=0.0)
    async with app.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: app.status is Status.ENDED)
        await pilot.press("g")
        assert isinstance(app.screen, GamePicker)
        await pilot.press(*"heat egg")
        await pilot.pause()
        assert app.screen.query_one(Input).value == "heat egg"
        assert app.screen.query_one(OptionList).option_count == 1
        await pilot.press("enter")
        await until(pilot, lambda: len(session.played) == 2 and app.status is Status.ENDED)
        assert "pick_heat" in session.played[1].id
        await pilot.press("enter")
        await until(pilot, lambda: len(session.played) == 3 and app.status is Status.ENDED)
        assert games().index(session.played[2]) == games().index(session.played[1]) + 1
        assert "3 of 3 games won" in shown(app, "#sofar")


async def test_the_picker_can_be_left_and_the_next_game_needs_an_end() -> None:
    session = RecordedSession()
    app = live(session)
    async with app.run_test() as pilot:
        await after_steps(pilot, 1)
        await pilot.press("g", "escape", "enter")
        await pilot.pause(0.2)
        assert len(session.played) == 1


async def test_trace_and_picture_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = live()
    async with app.run_test() as pilot:
        await after_steps(pilot, 3)
        await pilot.press("t", "s")
        await pilot.pause()
    (trace,) = tmp_path.glob("edge-router-*.jsonl")
    assert len(read_trace(trace).steps) == 3
    (picture,) = tmp_path.glob("edge-router-*.svg")
    assert "put&#160;a&#160;clean&#160;soapbar" in picture.read_text("utf-8")


async def test_a_folder_that_cannot_be_written_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    app = live()
    async with app.run_test() as pilot:
        await after_steps(pilot, 1)
        await pilot.press("t", "s")
        assert [n.severity for n in app._notifications] == ["error"]


async def test_help_names_every_key_and_leaves_the_keys_to_it() -> None:
    app = live()
    async with app.run_test(size=(100, 40)) as pilot:
        await after_steps(pilot, 1)
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("h", "question_mark")
        assert app.screen_stack[1:] == []
        assert app.session.router.forced is None
        assert app.status is Status.PAUSED


@pytest.mark.parametrize("app", [LiveApp, ServerApp])
def test_every_key_is_in_the_footer(app: type[ListeningApp]) -> None:
    """But for those that are variants of one that is."""
    shown = {action.partition("(")[0] for _, _, action in (*app.KEYS, *app.COMMON_KEYS)}
    bindings = [*app.BINDINGS, *ListeningApp.BINDINGS, *Frame.BINDINGS]
    bound = {b.action.partition("(")[0] for b in bindings if isinstance(b, Binding)}
    rare = {action for _, _, action in app.RARE_KEYS}
    assert {f"app.{action}" for action in bound} == (shown | rare) - {"app.command_palette"}


@pytest.mark.parametrize(
    "size",
    [
        *((200, 50), (80, 24), (1, 1)),
        *(pytest.param(s, marks=pytest.mark.slow) for s in ((120, 40), (40, 12), (20, 5))),
    ],
)
async def test_resizing_in_mid_game_keeps_the_newest_step_in_sight(size: tuple[int, int]) -> None:
    app = live()
    async with app.run_test(size=(120, 40)) as pilot:
        await after_steps(pilot, 4)
        await pilot.resize_terminal(*size)
        await pilot.pause()
        await after_steps(pilot, 1)
        transcript = app.query_one(Transcript)
        if transcript.size.height > 6:
            assert "clean soapbar 2" in shown(app, "#transcript")
        if app.query_one(PrecisionStrip).size.height:
            assert "by" in shown(app, "#strip") or size[0] < 10


async def test_whoever_scrolled_up_is_left_there() -> None:
    app = live()
    async with app.run_test(size=(80, 24)) as pilot:
        await after_steps(pilot, 4)
        transcript = app.query_one(Transcript)
        await pilot.press("pageup", "pageup", "up")
        await until(pilot, lambda: not transcript.is_vertical_scroll_end)
        there = transcript.scroll_offset.y
        await after_steps(pilot, 1)
        assert transcript.scroll_offset.y == there
        await pilot.press(*["pagedown"] * 9)
        await after_steps(pilot, 1)
        assert transcript.is_vertical_scroll_end
