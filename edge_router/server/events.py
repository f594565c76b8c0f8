"""What a server does, as one stream of plain data. The log on the terminal and the app listen.

    ServerOpened
      (RequestAsked  RequestEvent*  RequestAnswered | RequestFailed)*  of several requests at once

Listeners are called by the event loop, and for `RequestEvent` by the thread that owns the ladder:
they have to be quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge_router.agent.events import Event, TierInfo
from edge_router.agent.response import Response

GONE: Final = "the client went away"


@dataclass(frozen=True)
class ServerOpened:
    """The ladder is loaded and the server listens."""

    name: str  # the model's, as requests name it
    url: str  # the base URL of clients
    tiers: tuple[TierInfo, ...]  # low to high
    router: str  # the spec of the router that decides where a request names none
    kv: str  # "handoff", "handoff:8", "exact"
    slots: int  # conversations whose KV is kept


@dataclass(frozen=True)
class RequestAsked:
    """A request was read and found good; from now on it waits for its turn."""

    number: int  # counted from 1
    model: str  # "household#high"
    router: str  # the spec of the router that will decide
    messages: Sequence[Mapping[str, Any]]  # a completion's text is the only message


@dataclass(frozen=True)
class RequestEvent:
    """The model is at it: `StepStarted`, `Routed`, `TextDecoded` or `StepFinished`."""

    number: int
    event: Event


@dataclass(frozen=True)
class RequestAnswered:
    """The answer was written, and most of it sent."""

    number: int
    model: str
    asked: str  # the last message
    response: Response
    seconds: float  # since it was asked


@dataclass(frozen=True)
class RequestFailed:
    """There was no answer, or not all of it; `number` is None where it never waited."""

    number: int | None
    path: str
    status: int
    message: str


ServerEvent = ServerOpened | RequestAsked | RequestEvent | RequestAnswered | RequestFailed
ServerListener = Callable[[ServerEvent], None]
