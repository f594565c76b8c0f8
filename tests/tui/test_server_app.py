"""The app on a server: real requests over HTTP to the embedded model, and recorded ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from textual.pilot import Pilot

import edge_router
from edge_router import RoutedModel
from tests.recorded import until
from tests.serving import OPENING, user
from tests.watched import OPENED, RecordedServer, answer, answered, busy, live, recorded
from tui.apps.help import HelpScreen
from tui.apps.server import ServerApp
from tui.draw.panels import PrecisionStrip
from tui.state.screenful import Status
from tui.state.traffic import KEPT, Traffic


@pytest.fixture(scope="module")
def model() -> Iterator[RoutedModel]:
    with edge_router.load("household", threads=1, slots=3) as loaded:
        yield loaded


def client(app: ServerApp) -> openai.AsyncOpenAI:
    assert app.traffic.opened is not None
    url = app.traffic.opened.url
    return openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)


async def open_client(pilot: Pilot[int]) -> openai.AsyncOpenAI:
    """A client of the server whose app this is, when it listens."""
    app = pilot.app
    assert isinstance(app, ServerApp)
    await until(pilot, lambda: app.traffic.opened is not None)
    return client(app)


async def talk(asking: openai.AsyncOpenAI, opening: str, turns: int, name: str) -> None:
    messages = [user(opening)]
    for _ in range(turns):
        answer = await asking.chat.completions.create(model=name, messages=messages)
        said = answer.choices[0].message.content
        messages += [{"role": "assistant", "content": said}, user("Nothing happens.")]


def shown(app: ServerApp, selector: str) -> str:
    """What a panel draws, as plain text."""
    widget = app.query_one(selector)
    lines = (widget.render_line(y) for y in range(widget.size.height))
    return "\n".join(strip.text.rstrip() for strip in lines)


# -- on a real server ------------------------------------------------------------------------------


async def test_requests_of_several_conversations_are_the_steps(model: RoutedModel) -> None:
    with live(model) as app:
        async with app.run_test(size=(200, 50)) as pilot:
            async with await open_client(pilot) as asking:
                await asyncio.gather(
                    talk(asking, f"{OPENING}\nfirst", 3, "household"),
                    talk(asking, f"{OPENING}\nsecond", 2, "household#verify"),
                    talk(asking, OPENING, 1, "household:q8_0"),
                )
            await answered(pilot, 6)
            turns = sorted((view.talk, view.turn) for view in app.traffic.requests)
            counts = sorted([sum(talk == n for talk, _ in turns) for n in (1, 2, 3)])
            assert counts == [1, 2, 3]
            verified = [v for v in app.traffic.requests if v.model == "household#verify"]
            assert all(v.finished and v.finished.latency.drafted for v in verified)
            alone = next(v for v in app.traffic.requests if v.model == "household:q8_0")
            assert alone.tier == 1, "among all tiers, though it was alone"
            assert "6 answered" in shown(app, "#head")
            assert "tokens accepted" in shown(app, "#sofar")
            text = shown(app, "#transcript")
            assert "> " in text
            assert "tokens read" in text


async def test_what_is_on_the_screen_is_what_the_client_got(model: RoutedModel) -> None:
    with live(model, "high") as app:
        async with app.run_test(size=(120, 40)) as pilot:
            async with await open_client(pilot) as asking:
                got: Any = await asking.chat.completions.create(
                    model="household", messages=[user(OPENING)]
                )
            await answered(pilot, 1)
            (view,) = app.traffic.requests
            assert view.text.strip() == got.choices[0].message.content
            assert view.finished is not None
            assert view.finished.tier == got.model_extra["edge_router"]["tier"] == "q8_0"
            assert view.answered is not None
            assert view.answered.response.prompt_tokens == got.usage.prompt_tokens
            assert "● q8_0 wrote the answer to request 1" in shown(app, "#head")


async def all_ended(pilot: Pilot[int], count: int) -> None:
    """Wait until so many requests have an answer or a reason why there is none."""
    app = pilot.app
    assert isinstance(app, ServerApp)
    traffic = app.traffic
    await until(pilot, lambda: traffic.answered + traffic.failed == count and not app.happened)


async def test_a_refused_request_and_a_client_that_goes_are_told(model: RoutedModel) -> None:
    with live(model) as app:
        async with app.run_test(size=(120, 40)) as pilot:
            async with await open_client(pilot) as asking:
                with pytest.raises(openai.NotFoundError):
                    await talk(asking, "x", 1, "nobody")
                long: Any = {"model": "household", "prompt": "task: put", "max_tokens": 900}
                for asked in range(1, 6):  # on a busy machine an answer may end before we leave
                    stream: Any = await asking.completions.create(stream=True, **long)
                    await anext(aiter(stream))
                    await stream.close()
                    await all_ended(pilot, 1 + asked)
                    if app.traffic.failed == 2:
                        break
            assert "the client went away" in shown(app, "#head")
            assert "✗ the client went away" in shown(app, "#transcript")
            assert "2 not" in shown(app, "#sofar")


async def test_a_forced_tier_writes_one_answer_and_the_dial_moves_the_router(
    model: RoutedModel,
) -> None:
    with live(model, "entropy:0.002") as app:
        async with app.run_test(size=(120, 40)) as pilot, await open_client(pilot) as asking:
            await pilot.press("l")
            assert "Next request: ○ iq1_s, forced by you." in shown(app, "#head")
            await talk(asking, OPENING, 2, "household")
            await answered(pilot, 2)
            first, second = app.traffic.requests
            assert first.routed is not None
            assert (first.tier, first.routed.forced) == (0, True)
            assert second.routed is not None
            assert not second.routed.forced
            before = second.routed.thresholds
            await pilot.press("left")
            await talk(asking, OPENING, 1, "household")
            await answered(pilot, 3)
            after = app.traffic.requests[-1].routed
            assert after is not None
            assert after.thresholds > before, "cheaper: more doubt is let through"


async def test_quitting_lets_the_request_in_hand_finish(model: RoutedModel) -> None:
    with live(model, "low") as app:
        async with app.run_test() as pilot, await open_client(pilot) as asking:
            endless: Any = {"model": "household", "prompt": "task: put", "max_tokens": 400}
            stream: Any = await asking.completions.create(stream=True, **endless)
            pieces = aiter(stream)
            await anext(pieces)
            await pilot.press("q")
            assert app.status is Status.STOPPING
            rest = [chunk async for chunk in pieces]
            assert rest[-1].choices[0].finish_reason in ("length", "stop")
            await until(pilot, lambda: not app.is_running)
        assert app.return_code == 0
        assert app.result == ["household: 1 request answered"]


# -- on a recorded one -----------------------------------------------------------------------------


async def test_one_conversation_may_be_shown_alone() -> None:
    app = recorded(busy())
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, 6)
        assert [view.number for view in app.now.steps] == list(range(8))
        await pilot.press("c", "c", "c")
        assert "Conversation 2 of 5" in shown(app, "#head")
        assert [step.number + 1 for step in app.now.steps] == [2, 5, 8]
        await pilot.press("c", "c")
        assert app.talk is None
        assert "qwen3-0.6b on http" in shown(app, "#head")


async def test_earlier_requests_are_shown_as_they_were_while_the_server_answers() -> None:
    app = recorded(busy())
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, 6)
        await pilot.press("left_square_bracket", "left_square_bracket")
        assert app.status is Status.BACK
        assert len(app.screenful().episode.steps) == 6
        assert isinstance(app.server, RecordedServer)
        for event in answer(10, ["One more."], 0, "Yes.", 0.1):
            app.happened.append(event)
        await until(pilot, lambda: not app.happened)
        assert len(app.screenful().episode.steps) == 6, "it holds"
        await pilot.press("space")
        assert app.held is None
        assert len(app.screenful().episode.steps) == 10
        app.query_one(PrecisionStrip).post_message(PrecisionStrip.Picked(1))
        await until(pilot, lambda: app.held is not None)
        assert "request 2" in shown(app, "#head")


async def test_a_second_quit_does_not_wait() -> None:
    app = recorded(busy())
    async with app.run_test() as pilot:
        await answered(pilot, 6)
        assert isinstance(app.server, RecordedServer)
        app.server.last_stop = 2
        await pilot.press("q")
        assert app.status is Status.STOPPING
        assert app.is_running
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)
        assert app.server.stops == [False, True]


async def test_help_tells_of_servers_and_not_of_games() -> None:
    app = recorded(busy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        texts = " ".join(str(widget.render()) for widget in app.screen.query("Static"))
        assert "answers the requests of other programs" in texts
        assert "household" not in texts


def test_a_server_that_runs_for_long_keeps_the_newest_requests() -> None:
    traffic = Traffic()
    traffic.apply(OPENED)
    for number in range(1, 1001):
        for event in answer(number, [f"question {number}"], 0, "yes", 0.1):
            traffic.apply(event)
    assert KEPT <= len(traffic.requests) < KEPT + 101
    assert traffic.requests[-1].number == 999
    assert traffic.answered == 1000
    assert traffic.episode(traffic.requests).steps[0].number == 1000 - len(traffic.requests)


def test_who_goes_while_waiting_is_waited_for_no_longer() -> None:
    traffic = Traffic()
    traffic.apply(OPENED)
    first, second = answer(1, ["a"], 0, "yes", 0.1), answer(2, ["b"], 0, "yes", 0.1)
    for event in (first[0], *second):
        traffic.apply(event)
    service = traffic.service(None)
    assert service is not None
    assert (service.waiting, service.answered, service.failed) == (0, 1, 1)


def test_texts_of_strangers_steer_nothing() -> None:
    traffic = Traffic()
    traffic.apply(OPENED)
    for event in answer(1, ["\x1b[2J ask"], 0, "\x1b]0;x\x07 say", 0.1, model="m\x1b[1m"):
        traffic.apply(event)
    (view,) = traffic.requests
    for text in (view.asked, view.text, view.model):
        assert "\x1b" not in text
