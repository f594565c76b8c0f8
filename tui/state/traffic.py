"""From a server's events to what has happened: its requests as the steps of an episode.

A ladder writes one text at a time, so the requests of all conversations are one row of steps, in
the order in which they are written. A conversation's own are a part of that row.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edge_router.agent.events import EpisodeStarted, Event, Routed, StepFinished
from edge_router.screen.printable import clean, cleaned, one_line
from edge_router.server.events import (
    GONE,
    RequestAnswered,
    RequestAsked,
    RequestEvent,
    RequestFailed,
    ServerEvent,
    ServerOpened,
)
from tui.state.episode import Episode, StepOnly, StepView
from tui.state.screenful import Service

KEPT: Final = 300  # requests
_MORE: Final = 100  # so many of them go at once: then all lines are drawn anew
_ROOM: Final = 50  # columns of an empty strip
_LONGEST: Final = 2000  # letters of a question that are kept


@dataclass
class RequestView(StepView):
    """A request as a step; which conversation it belongs to, and what became of it."""

    model: str = ""
    router: str = ""  # the spec of the one that decides
    asked: str = ""
    talk: int = 0
    turn: int = 1
    answered: RequestAnswered | None = None
    failed: str = ""  # why there is no answer

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.answered is not None or bool(self.failed)


class Traffic:
    """What is known of a server after the events given to `apply`."""

    def __init__(self) -> None:
        self.opened: ServerOpened | None = None
        self.requests: list[RequestView] = []  # the newest that are or were written, in order
        self._begun = 0  # requests so far, the forgotten ones among them
        self._open: dict[int, RequestView] = {}  # by the server's number
        self._waiting: dict[int, RequestView] = {}
        self._talks = Talks()
        self.answered = self.failed = 0

    def apply(self, event: ServerEvent) -> None:
        """Take in the next event, cleaned for the screen."""
        if isinstance(event, ServerOpened):
            self.opened = cleaned(event)
        elif isinstance(event, RequestAsked):
            self._waiting[event.number] = self._new(event)
        elif isinstance(event, RequestEvent):
            self._write(event.number, event.event)
        elif isinstance(event, RequestAnswered):
            self.answered += 1
            if (view := self._open.pop(event.number, None)) is not None:
                view.answered = event
        else:
            self._fail(event)

    def _new(self, event: RequestAsked) -> RequestView:
        talk, turn = self._talks.find(event.messages)
        asked = clean(str(event.messages[-1].get("content", ""))[:_LONGEST])
        model, router = one_line(event.model), one_line(event.router)
        return RequestView(0, model=model, router=router, asked=asked, talk=talk, turn=turn)

    def _write(self, number: int, event: Event) -> None:
        if number in self._waiting:
            # They are written in the order of their numbers: who waits from before has gone.
            for earlier in [n for n in self._waiting if n < number]:
                self._begin(earlier).failed = GONE
                self.failed += 1
                del self._open[earlier]
            self._begin(number)
        if (view := self._open.get(number)) is not None and isinstance(event, StepOnly):
            view.apply(self._of_the_ladder(cleaned(event), view))

    def _begin(self, number: int) -> RequestView:
        view = self._open[number] = self._waiting.pop(number)
        view.number = self._begun
        self._begun += 1
        self.requests.append(view)
        if len(self.requests) > KEPT + _MORE:
            del self.requests[:_MORE]
        return view

    def _fail(self, event: RequestFailed) -> None:
        if event.number in self._waiting:
            self._begin(event.number)
        view = None if event.number is None else self._open.pop(event.number, None)
        if view is not None:
            view.failed = cleaned(event).message
            self.failed += 1
        elif event.number is None:
            self.failed += 1  # it was refused before it could wait

    def _of_the_ladder(self, event: StepOnly, view: RequestView) -> StepOnly:
        """The event with the request's number, and with the tier's index among all of them.

        A tier that was asked for alone is the only one of its own ladder.
        """
        if isinstance(event, Routed | StepFinished):
            index = next((i for i, name in enumerate(self.tiers) if name == event.tier), 0)
            return replace(event, step=view.number, tier_index=index)
        return replace(event, step=view.number)

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names of the tiers, low to high."""
        return tuple(tier.name for tier in self.opened.tiers) if self.opened else ()

    @property
    def talks(self) -> list[int]:
        """The conversations of the kept requests, the newest first."""
        return sorted({view.talk for view in self.requests}, reverse=True)

    def of_talk(self, talk: int | None) -> list[RequestView]:
        """The kept requests of a conversation, or of all."""
        return [view for view in self.requests if talk in (None, view.talk)]

    def episode(self, views: list[RequestView]) -> Episode:
        """Requests as the steps of an episode, whose router is that of the last of them."""
        opened = self.opened
        if opened is None:
            return Episode()
        started = EpisodeStarted(
            task="",
            game="",
            kind="",
            goal="",
            observation="",
            tiers=opened.tiers,
            router=views[-1].router if views else opened.router,
            kv=opened.kv,
            prompt="",
            seed=0,
            temperature=0.0,
            constrained=False,
            max_steps=_ROOM,
        )
        return Episode(started, list(views))

    def service(self, talk: int | None) -> Service | None:
        """What is to be said of the server; None before it listens."""
        opened = self.opened
        if opened is None:
            return None
        return Service(
            name=opened.name,
            url=opened.url,
            slots=opened.slots,
            answered=self.answered,
            failed=self.failed,
            waiting=len(self._waiting),
            talks=self._talks.count,
            talk=talk,
        )


_REMEMBERED: Final = 1000  # requests


class Talks:
    """Numbers conversations from 1 on, as requests come in."""

    def __init__(self) -> None:
        self.count = 0
        self._known: OrderedDict[int, int] = OrderedDict()  # hash of a request -> conversation

    def find(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        """The conversation that goes on with these messages, and which turn of it this is.

        One goes on when it begins with all messages of an earlier request, and has more.
        """
        hashes, so_far = [], 0
        for message in messages:
            said = (message.get("role"), message.get("content"), str(message.get("tool_calls")))
            so_far = hash((so_far, said))
            hashes.append(so_far)
        known = (self._known.get(begins) for begins in reversed(hashes[:-1]))
        talk = next((number for number in known if number is not None), None)
        if talk is None:
            self.count += 1
            talk = self.count
        self._known[so_far] = talk
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return talk, 1 + sum(message.get("role") == "assistant" for message in messages)
