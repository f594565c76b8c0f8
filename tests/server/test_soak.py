"""Many clients at once, some of whom go away: every answer is right, and none is lost."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai
import psutil
import pytest

import edge_router
from edge_router import RoutedModel
from edge_router.server.app import RequestLimits
from edge_router.server.events import RequestAnswered, RequestAsked, RequestFailed, ServerEvent
from tests.serving import RunningServer, running, user

THINGS = ("mug", "pan", "cup", "bowl", "plate", "fork", "knife", "apple", "egg", "bread")
REPLIES = ("Nothing happens.", "You are there.", "at sinkbasin 1: mug 1", "You open it.")
# Routers that know nothing of a conversation but its text: which of them are remembered depends on
# who else asks.
MODELS = ("household#high", "household#retry", "household#verify", "household:q8_0")
TURNS = 5


@pytest.fixture(scope="module")
def model() -> Iterator[RoutedModel]:
    with edge_router.load("household", threads=1, slots=4) as loaded:
        yield loaded


@dataclass(frozen=True)
class Expected:
    """A request, and the answer that is given when nobody else asks."""

    body: dict[str, Any]
    text: str


def conversation(server: httpx.Client, number: int) -> list[Expected]:
    """The same number, the same conversation, its answers given by a server that is idle."""
    draw = random.Random(number)
    place = f"cabinet {draw.randrange(1, 9)} countertop 1"
    messages = [user(f"task: put a {draw.choice(THINGS)} in cabinet.\nroom: {place}")]
    asked: dict[str, Any] = {
        "model": draw.choice(MODELS),
        "max_tokens": 12,
        "temperature": draw.choice((0, 0.7)),
        "seed": number,
    }
    expected = []
    for _ in range(TURNS):
        body = {**asked, "messages": list(messages)}
        reply = server.post("/chat/completions", json=body).json()
        said = reply["choices"][0]["message"]
        expected.append(Expected(body, said["content"]))
        messages += [{"role": "assistant", "content": said["content"]}]
        messages += [user(draw.choice(REPLIES))]
    return expected


@dataclass
class Soak:
    """What came of many requests."""

    wrong: list[tuple[str, str]] = field(default_factory=list)  # expected, answered
    ends: Counter[str] = field(default_factory=Counter)

    async def ask(self, client: httpx.AsyncClient, expected: Expected, draw: random.Random) -> None:
        """Ask for a whole answer or a stream; one in five leaves before its end."""
        leaves = draw.random() < 0.2
        if draw.random() < 0.5:
            asking = client.post("/chat/completions", json=expected.body)
            text = await _for_a_moment(asking, draw) if leaves else _whole(await asking)
        else:
            text = await _streamed(client, expected.body, draw.randrange(8) if leaves else None)
        self.ends["left" if text is None else "answered"] += 1
        if text is not None and text != expected.text:
            self.wrong.append((expected.text, text))


def _whole(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


async def _for_a_moment(asking: Any, draw: random.Random) -> str | None:
    try:
        return _whole(await asyncio.wait_for(asking, draw.uniform(0.0, 0.5)))
    except TimeoutError:
        return None


async def _streamed(
    client: httpx.AsyncClient, body: dict[str, Any], pieces: int | None
) -> str | None:
    """The text of a stream; None for who leaves after so many pieces."""
    text, count = "", 0
    async with client.stream("POST", "/chat/completions", json={**body, "stream": True}) as reply:
        assert reply.status_code == 200
        made: Any = reply.aiter_lines()  # a generator, which is to be closed here and not later
        async with aclosing(made) as lines:
            async for line in lines:
                if count == pieces:
                    return None
                if line in ("", "data: [DONE]"):
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                text += chunk["choices"][0]["delta"].get("content", "")
                count += 1
    return text.strip()


async def soak(server: RunningServer, talks: list[list[Expected]], clients: int) -> Soak:
    """Each client goes on with one conversation after the other."""
    made, waiting = Soak(), iter(enumerate(talks))

    async def one_client() -> None:
        async with httpx.AsyncClient(base_url=f"{server.root}/v1", timeout=300) as client:
            for number, talk in waiting:
                draw = random.Random(number)
                for expected in talk:
                    await made.ask(client, expected, draw)

    await asyncio.gather(*(one_client() for _ in range(clients)))
    return made


def requests_counted(server: RunningServer) -> Counter[str]:
    """How many chat requests the server has counted, by status."""
    text = httpx.get(f"{server.root}/metrics").text
    found = re.findall(r'requests_total{route="/v1/chat/completions",status="(\d+)"} (\S+)', text)
    return Counter({status: int(float(count)) for status, count in found})


def memory_in_use() -> int:
    """Bytes of this process, clients and server, without garbage that is not yet collected."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def some_talks(server: RunningServer, count: int) -> list[list[Expected]]:
    with httpx.Client(base_url=f"{server.root}/v1", timeout=300) as client:
        return [conversation(client, number) for number in range(count)]


class RequestEnds:
    """A listener that remembers which requests the server took, and which of them ended."""

    def __init__(self) -> None:
        self.taken, self.ended = set[int](), set[int]()

    def __call__(self, event: ServerEvent) -> None:
        if isinstance(event, RequestAsked):
            self.taken.add(event.number)
        elif isinstance(event, RequestAnswered | RequestFailed) and event.number is not None:
            self.ended.add(event.number)

    async def counted(self, server: RunningServer) -> Counter[str]:
        """What the server has counted by status, when all that it took has ended."""
        for _ in range(500):
            counted = await asyncio.to_thread(requests_counted, server)
            if self.ended == self.taken and counted.total() >= len(self.taken):
                break
            await asyncio.sleep(0.02)
        return counted


async def test_answers_are_right_whoever_else_asks(
    model: RoutedModel, caplog: pytest.LogCaptureFixture
) -> None:
    told, limits = RequestEnds(), RequestLimits(waiting=64)
    with running(model, router="retry", limits=limits, listeners=[told]) as server:
        talks = await asyncio.to_thread(some_talks, server, 6)
        made = await soak(server, talks, clients=6)
        assert made.wrong == []
        assert made.ends.total() == 6 * TURNS, "none is lost"
        counted = await told.counted(server)
        assert told.ended == told.taken
        assert counted.total() == len(told.taken), "each is counted once"
        assert counted["200"] >= 6 * TURNS + made.ends["answered"]
        assert set(counted) == {"200", "499"}
        assert caplog.text == "", "nothing is written to a connection that has gone"


@pytest.mark.slow
async def test_answers_are_right_for_thousands_of_requests(
    model: RoutedModel, caplog: pytest.LogCaptureFixture
) -> None:
    told, limits = RequestEnds(), RequestLimits(waiting=64)
    with running(model, router="retry", limits=limits, listeners=[told]) as server:
        talks = await asyncio.to_thread(some_talks, server, 80)
        memory = [memory_in_use()]
        ends, wrong = Counter[str](), list[tuple[str, str]]()
        for _ in range(5):  # 400 requests each, the same conversations in between others
            made = await soak(server, talks, clients=32)
            ends += made.ends
            wrong += made.wrong
            memory.append(memory_in_use())
        print(dict(ends), [round(rss / 1e6) for rss in memory], "MB")
        assert wrong == []
        assert ends.total() == 2000, "none is lost"
        counted = await told.counted(server)
        assert told.ended == told.taken
        assert counted.total() == len(told.taken), "each is counted once"
        assert set(counted) == {"200", "499"}
        assert memory[-1] < memory[1] + 16e6
        assert caplog.text == "", "nothing is written to a connection that has gone"


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
            body: Any = {"model": "household", "prompt": "task: put", "max_tokens": 200}
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
