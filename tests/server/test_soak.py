"""Many clients at once, some of whom go away: every answer is right, and none is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

import edge_router
from edge_router import RoutedModel
from edge_router.server.app import RequestLimits
from tests.serving import RunningServer, running, user

THINGS = ("mug", "pan", "cup", "bowl", "plate", "fork", "knife", "apple", "egg", "bread")
MODELS = ("household", "household#high", "household#retry", "household:q8_0")


@pytest.fixture(scope="module")
def model() -> Iterator[RoutedModel]:
    with edge_router.load("household", threads=1, slots=4) as loaded:
        yield loaded


def request(number: int) -> dict[str, Any]:
    """The same number, the same request: a goal, a model and a seed."""
    draw = random.Random(number)
    goal = f"task: put a {draw.choice(THINGS)} in cabinet.\nroom: cabinet {draw.randrange(1, 9)}"
    return {
        "model": draw.choice(MODELS),
        "messages": [user(goal)],
        "max_tokens": 12,
        "temperature": draw.choice((0, 0.7)),
        "seed": number,
    }


async def ask(client: openai.AsyncOpenAI, number: int, leaves: bool) -> str | None:
    """The answer's text; None for a client that went away in the middle of it."""
    stream = await client.chat.completions.create(stream=True, **request(number))
    text = ""
    async for chunk in stream:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        if leaves and text:
            await stream.close()
            return None
    return text.strip()


async def soak(server: RunningServer, clients: int, requests: int) -> None:
    """Each answer equals the one that is given when nobody else asks."""
    numbers = iter(range(requests))
    answers: dict[int, str | None] = {}

    async def one_client() -> None:
        async with server.async_client as client:
            for number in numbers:
                leaves = number % 5 == 0
                answers[number] = await ask(client, number, leaves)

    await asyncio.gather(*(one_client() for _ in range(clients)))
    assert len(answers) == requests, "none is lost"
    async with server.async_client as client:
        distinct = {number % 25: number for number in answers}.values()
        for number in distinct:
            alone = await ask(client, number, leaves=False)
            assert answers[number] in (alone, None)


async def test_answers_are_right_whoever_else_asks(model: RoutedModel) -> None:
    with running(model, router="retry", limits=RequestLimits(waiting=64)) as server:
        await soak(server, clients=8, requests=100)


@pytest.mark.slow
async def test_answers_are_right_for_thousands_of_requests(model: RoutedModel) -> None:
    import psutil

    with running(model, router="retry", limits=RequestLimits(waiting=64)) as server:
        await soak(server, clients=32, requests=400)
        before = psutil.Process().memory_info().rss
        await soak(server, clients=32, requests=1600)
        assert psutil.Process().memory_info().rss < before + 32e6


async def test_a_client_that_goes_away_ends_its_answer(model: RoutedModel) -> None:
    with running(model) as server:
        async with server.async_client as client:
            endless: Any = {"model": "household", "prompt": "task: put", "max_tokens": 900}
            stream: Any = await client.completions.create(stream=True, **endless)
            await anext(aiter(stream))
            await stream.close()
            answer = await client.completions.create(model="household", prompt="x", max_tokens=1)
        assert answer.choices
        text = httpx.get(f"{server.root}/metrics").text
        assert 'route="/v1/completions",status="499"} 1.0' in text


async def test_a_full_queue_tells_when_to_come_again(model: RoutedModel) -> None:
    with running(model, limits=RequestLimits(waiting=1)) as server:
        async with server.async_client as client:
            body: Any = {"model": "household", "prompt": "task: put", "max_tokens": 400}
            asked = [client.completions.create(**body) for _ in range(6)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, openai.APIStatusError)]
        assert 1 <= len(refused) <= 5
        for error in refused:
            assert error.status_code == 503
            assert int(error.response.headers["retry-after"]) >= 1
        assert any(not isinstance(answer, BaseException) for answer in answers)


async def test_a_request_ends_with_its_time(model: RoutedModel) -> None:
    with running(model, limits=RequestLimits(seconds=1e-6)) as server:
        async with server.async_client as client:
            with pytest.raises(openai.InternalServerError) as caught:
                await client.completions.create(model="household", prompt="x")
            assert caught.value.status_code == 504
            assert "all a request may take" in str(caught.value)
