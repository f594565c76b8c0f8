"""Which conversation a request goes on with: clients send all messages, and no name for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

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
