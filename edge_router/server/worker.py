"""The one thread that owns the ladder, and the queue before it.

A ladder writes one text at a time. A request waits in a queue of limited length; when it is full,
the next one is told to come again. What nobody waits for any longer ends before the next batch
that the model would compute, and what takes too long as well.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from queue import Full, Queue
from typing import Final

from edge_router.agent.response import Response
from edge_router.engine.stop_flag import asking
from edge_router.server.errors import ApiError, GoneError, LateError

Write = Callable[[Callable[[str], None]], Response]
_REMEMBERED: Final = 20  # durations, from which it is told when to come again


class AnswerWriting:
    """One answer: written in the worker's thread, read in the event loop that made it."""

    def __init__(self, write: Write, seconds: float) -> None:
        self._write = write
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._gone = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[str | Response | Exception] = asyncio.Queue()
        self._first: str | Response | None = None  # of its news, while nobody has read it
        self.response: Response | None = None

    def give_up(self) -> None:
        """Nobody waits for it any longer."""
        self._gone.set()

    async def begun(self) -> None:
        """Wait for the first piece. Raises what went wrong before it."""
        self._first = await self._heard()

    async def pieces(self) -> AsyncIterator[str]:
        """The text as it grows; then `response` is there. Raises what went wrong."""
        news, self._first = self._first or await self._heard(), None
        while isinstance(news, str):
            yield news
            # Of several pieces that wait, none would let the loop notice that the client has gone.
            await asyncio.sleep(0)
            news = await self._heard()
        self.response = news

    async def _heard(self) -> str | Response:
        news = await self._news.get()
        if isinstance(news, Exception):
            raise news
        return news

    async def whole(self) -> Response:
        """The answer, when all of it was written."""
        async for _ in self.pieces():
            pass
        assert self.response is not None
        return self.response

    def run(self) -> None:
        """Write, in the thread that owns the ladder."""
        try:
            self._ask()
            with asking(self._ask):
                self._tell(self._write(self._tell))
        except Exception as error:
            self._tell(error)
        except BaseException as error:  # the thread has to outlive it
            self._tell(RuntimeError(f"{type(error).__name__} while writing"))

    def _tell(self, news: str | Response | Exception) -> None:
        if isinstance(news, str):
            self._ask()
        try:
            self._loop.call_soon_threadsafe(self._news.put_nowait, news)
        except RuntimeError:  # the loop has ended: nobody is there to be told
            self._gone.set()

    def _ask(self) -> None:
        if self._gone.is_set():
            raise GoneError
        if time.monotonic() > self._deadline:
            raise LateError(
                f"the answer was not there after {self._seconds:g} s, which is all a request may "
                "take on this server"
            )


class Worker:
    """Runs one `AnswerWriting` after another; at most `room` of them wait."""

    def __init__(self, room: int) -> None:
        self._waiting: Queue[AnswerWriting | None] = Queue(room)
        self._durations: deque[float] = deque(maxlen=_REMEMBERED)
        self._now: AnswerWriting | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="ladder", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._waiting.qsize()

    def submit(self, writing: AnswerWriting) -> None:
        """Put it at the queue's end. Raises `ApiError` when the queue is full."""
        try:
            self._waiting.put_nowait(writing)
        except Full:
            seconds = max(1, round(self._usual() * self._waiting.qsize()))
            raise ApiError(
                503,
                f"{self._waiting.qsize()} requests wait already; come again in {seconds} s",
                kind="server_error",
                code="overloaded",
                headers={"Retry-After": str(seconds)},
            ) from None

    def close(self) -> None:
        """End what is being written, and the thread."""
        self._closed = True
        if self._now is not None:
            self._now.give_up()
        while not self._waiting.empty():
            if (left := self._waiting.get()) is not None:
                left.give_up()
        self._waiting.put(None)
        self._thread.join()

    def _usual(self) -> float:
        return sum(self._durations) / max(1, len(self._durations))

    def _work(self) -> None:
        while (writing := self._waiting.get()) is not None:
            self._now, started = writing, time.monotonic()
            if self._closed:
                writing.give_up()
            writing.run()
            self._now = None
            self._durations.append(time.monotonic() - started)
