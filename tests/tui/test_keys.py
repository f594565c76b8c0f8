"""Every key does something that can be seen, or says why not: in every state, at 80x24."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from textual.binding import Binding, BindingType
from textual.pilot import Pilot

from edge_router.agent.events import EpisodeFinished, Listener
from edge_router.errors import UserError
from edge_router.tasks.games import GameRef
from tests.recorded import FOREVER, RecordedSession, after_steps, games, until, won
from tui.apps.frame import Frame
from tui.apps.listening import ListeningApp
from tui.apps.live import LiveApp
from tui.apps.replay import ReplayApp, Replaying, ReplayScreen
from tui.draw.panels import Panel
from tui.draw.transcript import Transcript
from tui.state.screenful import Status

SIZE = (80, 24)


def keys_of(*groups: Sequence[BindingType]) -> list[str]:
    """All keys but those that end the app, and one that means nothing."""
    bound = [b for group in groups for b in group if isinstance(b, Binding)]
    return ["x", *(k for b in bound if b.action != "leave" for k in b.key.split(","))]


def seen(app: Frame) -> object:
    """What a person sees: screens, texts, colours and the answer to the last key."""
    texts = []
    for widget in (*app.screen.query(Panel), *app.screen.query(Transcript)):
        texts += [widget.render_line(y).text for y in range(widget.size.height)]
    answers = [notification.message for notification in app._notifications]
    return [type(screen) for screen in app.screen_stack], texts, app.theme, answers


class HeldSession(RecordedSession):
    """A game that is loaded when the test lets it, or fails to load."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = threading.Event()
        self.fails = False

    def play(self, game: GameRef, listeners: Sequence[Listener]) -> EpisodeFinished:
        if self.fails:
            if self.played:
                self.loaded.wait()
            self.played.append(game)
            raise UserError("the model is gone")
        self.loaded.wait()
        return super().play(game, listeners)


async def arrange(pilot: Pilot[int], app: LiveApp, state: Status) -> None:
    """Bring the app into a state, whatever a key did to it."""
    session = app.session
    assert isinstance(session, HeldSession)
    while len(app.screen_stack) > 1:
        app.pop_screen()
    app._leaving = False
    app.looked_at, session.router.forced, app.player.pace = None, None, FOREVER
    if state is Status.ENDED and app.status is not state:
        app.player.pace, app.player.paused = 0.0, False
        await until(pilot, lambda: app.status is state)
    elif state in (Status.RUNNING, Status.PAUSED, Status.BACK, Status.STOPPING):
        if len(app.episode.done_steps) not in (2, 3, 4):
            app.action_restart()
            await until(pilot, lambda: app.status is not Status.LOADING)
            await after_steps(pilot, 3)
        app.player.paused = state is not Status.RUNNING
        app.looked_at = 1 if state is Status.BACK else None
        app._leaving = state is Status.STOPPING
    elif state is Status.FAILED and app.status is not state:
        session.loaded.set()
        await until(pilot, lambda: app.status is state)
        session.loaded.clear()
    app.clear_notifications()
    app.show()
    await pilot.pause()
    assert app.screenful().status is state


FAST = (Status.LOADING, Status.RUNNING)


@pytest.mark.parametrize(
    "state", [pytest.param(s, marks=() if s in FAST else pytest.mark.slow) for s in Status]
)
async def test_a_live_game_answers_every_key(
    state: Status, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("saved"))
    session = HeldSession()
    session.fails = state is Status.FAILED
    if state not in (Status.LOADING, Status.FAILED):
        session.loaded.set()
    app = LiveApp(session, games()[0], pace=FOREVER)
    mute = []
    async with app.run_test(size=SIZE) as pilot:
        for key in keys_of(LiveApp.BINDINGS, Frame.BINDINGS):
            await arrange(pilot, app, state)
            before = seen(app)
            await pilot.press(key)
            await pilot.pause()
            if key in ("n", "enter", "r"):  # what they do comes from the player's thread
                await until(pilot, lambda: seen(app) != before)  # noqa: B023
            if seen(app) == before:
                mute.append(key)
        app._leaving = False
        session.loaded.set()
        app.finish_work()
    assert mute == []


PLACES: dict[str, Callable[[ReplayApp], None]] = {
    "start": lambda app: app.seek(0.0),
    "middle": lambda app: app.seek(app.timelines[0].end_of(3)),
    "end": lambda app: app.seek(app.length),
}


@pytest.mark.parametrize(
    ("place", "playing"),
    [
        *(("middle", True), ("end", False)),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (("start", True), ("start", False), ("middle", False), ("end", True))
        ),
    ],
)
async def test_a_replay_answers_every_key(
    place: str, playing: bool, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path_factory.mktemp("saved"))
    app = ReplayApp([won()], pace=FOREVER, paused=True)
    mute = []
    async with app.run_test(size=SIZE) as pilot:
        for key in ["l", "g", *keys_of(Replaying.BINDINGS, Frame.BINDINGS)]:
            while len(app.screen_stack) > 1:
                app.pop_screen()
            PLACES[place](app)
            app.playing = playing
            app.clear_notifications()
            app.show()
            await pilot.pause()
            before = seen(app)
            await pilot.press(key)
            await pilot.pause()
            if seen(app) == before:
                mute.append(key)
    assert mute == []


async def test_space_at_the_end_of_a_game_does_not_pause_the_next_one() -> None:
    session = RecordedSession()
    app = LiveApp(session, games()[0], pace=0.0)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.status is Status.ENDED)
        await pilot.press("space", "n")
        assert not app.player.paused
        (answer,) = app._notifications
        assert answer.message.startswith("The game has ended. Enter: the next one")
        await pilot.press("enter")
        await until(pilot, lambda: len(session.played) == 2 and app.status is Status.ENDED)


async def test_a_paused_game_is_looked_back_at_and_goes_on_from_its_newest_step() -> None:
    app = LiveApp(RecordedSession(), games()[0], pace=FOREVER)
    async with app.run_test(size=(120, 40)) as pilot:
        await after_steps(pilot, 4)
        await pilot.press("left_square_bracket")
        assert app.looked_at == 3
        await pilot.press(*["left_square_bracket"] * 2)
        s = app.screenful()
        assert (s.status, len(s.episode.done_steps)) == (Status.BACK, 2)
        assert s.ahead is not None
        assert len(s.ahead.tiers) == 4
        head = app.query_one("#head").render_line(0).text
        assert "step 2 of 50" in head
        assert "looking back" in head
        await pilot.click("#strip", offset=(2 + 7, 3))
        assert app.looked_at == 0
        await pilot.press("space")
        assert app.screenful().status is Status.PAUSED
        assert len(app.screenful().episode.done_steps) == 4
        await pilot.press("left_square_bracket")
        await after_steps(pilot, 1)
        assert app.looked_at is None


async def test_looking_back_pauses_a_game_that_runs() -> None:
    app = LiveApp(RecordedSession(), games()[0], pace=FOREVER)
    async with app.run_test(size=SIZE) as pilot:
        await after_steps(pilot, 2)
        await pilot.press("space", "left_square_bracket")
        assert (app.looked_at, app.player.paused) == (1, True)


async def test_the_ended_game_opens_as_a_replay_and_the_next_game_closes_it() -> None:
    session = RecordedSession()
    app = LiveApp(session, games()[0], pace=0.0)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.status is Status.ENDED)
        await pilot.press("v")
        screen = app.screen
        assert isinstance(screen, ReplayScreen)
        await pilot.press("right", "right")
        assert len(screen.timelines[0].episode.done_steps) == 2
        head = screen.query_one("#head")
        assert isinstance(head, Panel)
        assert "step 2 of 50" in head.render_line(0).text
        await pilot.press("v")
        assert app.status is Status.ENDED
        assert len(app.screen_stack) == 1
        await pilot.press("v", "enter")
        await until(pilot, lambda: len(session.played) == 2 and app.status is Status.ENDED)
        assert len(app.screen_stack) == 1


async def test_the_menu_lists_what_the_keys_do() -> None:
    app = LiveApp(RecordedSession(), games()[0], pace=FOREVER)
    async with app.run_test(size=(120, 40)) as pilot:
        await after_steps(pilot, 1)
        commands = {c.title: c.callback for c in app.get_system_commands(app.screen)}
        wanted = {b.description for a in (LiveApp, ListeningApp, Frame) for b in a.BINDINGS
                  if isinstance(b, Binding) and b.show}  # fmt: skip
        assert wanted | {"Theme"} == set(commands)
        await commands["Next step by the high tier"]()
        assert app.session.router.forced == 2
        await pilot.press("ctrl+p")
        await pilot.press(*"towards qual")
        await pilot.pause(0.3)
        await pilot.press("enter")
        await until(pilot, lambda: app.session.dial == 0.55)


@pytest.mark.parametrize("size", [SIZE, pytest.param((120, 40), marks=pytest.mark.slow), (200, 50)])
async def test_minus_is_slower_and_plus_faster_and_every_size_says_so(
    size: tuple[int, int],
) -> None:
    live, replay = LiveApp(RecordedSession(), games()[0], pace=1.5), ReplayApp([won()], paused=True)
    for app in (live, replay):
        async with app.run_test(size=size) as pilot:
            await pilot.press("space", "minus")
            said = [n.message for n in app._notifications]
            assert said == ["Slower: at least 3 s a step on screen."]
            await pilot.press("plus")
            said = [n.message for n in app._notifications]
            assert said == ["Faster: at least 1.5 s a step on screen."]
            await pilot.press(*["plus"] * 9)
            said = [n.message for n in app._notifications]
            assert said == ["That is the fastest pace: full speed."]
