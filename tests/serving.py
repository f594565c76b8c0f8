"""A real server on a real port of this machine, in a thread of the test's own process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai
import uvicorn

import edge_router
from edge_router import RoutedModel
from edge_router.ladders.resolve import resolve, router_for
from edge_router.server.answering import Served
from edge_router.server.app import Api, RequestLimits
from edge_router.server.events import ServerListener
from edge_router.server.guard import Guard

OPENING = "task: put a clean mug in cabinet.\nroom: cabinet 2 cabinet 1 countertop 1 sinkbasin 1"


class RunningServer:
    """Where it listens, and what it is made of."""

    def __init__(self, api: Api, port: int, key: str | None) -> None:
        self.api = api
        self.port = port
        self.root = f"http://127.0.0.1:{port}"
        self.key = key or "none"

    @property
    def client(self) -> openai.OpenAI:
        """OpenAI's own client, which asks once."""
        return openai.OpenAI(base_url=f"{self.root}/v1", api_key=self.key, max_retries=0)

    @property
    def async_client(self) -> openai.AsyncOpenAI:
        """The same for coroutines."""
        return openai.AsyncOpenAI(base_url=f"{self.root}/v1", api_key=self.key, max_retries=0)


@contextmanager
def running(
    model: RoutedModel,
    name: str = "household",
    *,
    router: str = "low",
    key: str | None = None,
    limits: RequestLimits | None = None,
    listeners: Sequence[ServerListener] = (),
) -> Iterator[RunningServer]:
    """A server on a free port until the block ends."""
    served = Served(name, model, router_for(resolve("household", []), router), 0.5)
    api = Api(served, Guard(key, "127.0.0.1"), limits or RequestLimits(), listeners)
    settings: dict[str, Any] = {"port": 0, "log_config": None, "access_log": False}
    server = uvicorn.Server(uvicorn.Config(api.app(), lifespan="on", **settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield RunningServer(api, port, key)
    finally:
        server.should_exit = True
        thread.join()


def user(text: str) -> Any:
    """A message of the user's."""
    return {"role": "user", "content": text}


def short_context() -> Iterator[RunningServer]:
    """A fixture: the embedded ladder, whose context ends what is written without max_tokens."""
    with (
        edge_router.load("household", threads=1, context=256) as model,
        running(model) as started,
    ):
        yield started
