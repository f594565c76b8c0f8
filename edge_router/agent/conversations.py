"""Several conversations that take turns on one ladder.

Each request brings a whole conversation. The one that it goes on with is found by its messages:
so the router is asked with what it knows of this conversation, and no other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge_router.agent.chat import Asked, ChatMessage, Conversation, common_messages
from edge_router.agent.events import Listener
from edge_router.agent.response import Response
from edge_router.engine.ladder import Ladder
from edge_router.engine.slots import Slots
from edge_router.router.base import Router


@dataclass
class _Held:
    """A conversation, and for each router the copy that belongs to it."""

    conversation: Conversation
    routers: dict[int, tuple[Router, Router]] = field(default_factory=dict)

    def own(self, router: Router) -> Router:
        """A copy with the state of this conversation; what routers learn from all is shared."""
        kept = self.routers.get(id(router))
        if kept is None:
            self.routers.clear()  # a conversation seldom changes its router
            kept = self.routers[id(router)] = (router, copy.copy(router))
        return kept[1]


class Conversations:
    """The `count` conversations used last; not for several threads at once."""

    def __init__(self, ladder: Ladder, count: int, *, prompt: str = "") -> None:
        """`prompt` is the prompt style, "" what the GGUF says. Raises `UserError`."""
        self._ladder, self._prompt = ladder, prompt
        self._slots = Slots(ladder, count)
        self._count = count
        self._held = [self._new()]  # the one used last at the end

    def answer(
        self,
        messages: Sequence[ChatMessage],
        router: Router,
        asked: Asked,
        on_text: Callable[[str], None] | None = None,
        listeners: Sequence[Listener] = (),
    ) -> Response:
        """As `Conversation.answer`, in the conversation that these messages go on with."""
        held = self._find(messages)
        return held.conversation.answer(messages, held.own(router), asked, on_text, listeners)

    def complete(
        self,
        text: str,
        router: Router,
        asked: Asked,
        on_text: Callable[[str], None] | None = None,
        listeners: Sequence[Listener] = (),
    ) -> Response:
        """As `Conversation.complete`."""
        held = self._new()
        return held.conversation.complete(text, held.own(router), asked, on_text, listeners)

    def _new(self) -> _Held:
        return _Held(Conversation(self._ladder, prompt=self._prompt, slots=self._slots))

    def _find(self, messages: Sequence[ChatMessage]) -> _Held:
        """The conversation of which all messages, or all but the answer, are the first of these."""

        def going_on(held: _Held) -> int:
            known = held.conversation.messages
            common = common_messages(known, messages)
            return common if known and common >= len(known) - 1 else 0

        found = max(self._held, key=going_on)
        if going_on(found):
            self._held.remove(found)
        else:
            found = self._new()
            del self._held[: len(self._held) - self._count + 1]
        self._held.append(found)
        return found
