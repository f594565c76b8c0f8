"""What a draft's words have to do with what was said before: its `Wording`.

A model of low precision often goes wrong in ways that stand on the page, however
sure it is: the action names another thing than its thought does ("see desklamp 1
on desk 1 > take mug 1"), the thought speaks of what the reply did not mention, a
place in the middle of a plan is left out. None of this needs the words to be
understood, only to be compared, in some ten microseconds a step.

A "thing" is a word with the number behind it, if any: "go to cabinet 21" is made
of "go", "to" and "cabinet 21", and its target is the last of them.
"""

from __future__ import annotations

import re

from edge_router.router.features import Wording
from edge_router.tasks.parse import Parsed

_THING = re.compile(r"\w+(?: \d+\b)?")


def things(text: str) -> list[str]:
    """The things of a text, in lower case and in their order."""
    return _THING.findall(text.lower())


class Said:
    """What was said in an episode so far, as things in their order."""

    def __init__(self) -> None:
        self._count = 0
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._pairs: set[tuple[str, str]] = set()  # things that stood side by side
        self._end = ""
        self._newest: list[str] = []

    def add(self, text: str) -> None:
        """Something more was said: the goal, a step, a reply."""
        self._newest = things(text)
        for thing in self._newest:
            self._first.setdefault(thing, self._count)
            self._last[thing] = self._count
            self._pairs.add((self._end, thing))
            self._count, self._end = self._count + 1, thing

    def compare(self, draft: Parsed, last_action: str) -> Wording:
        """The wording of a draft that follows on what was said last."""
        thought, action, last = things(draft.thought), things(draft.action), things(last_action)
        target = action[-1] if action else ""
        before = last[-1] if last else ""
        return Wording(
            off_thought=sum(thing not in thought for thing in action),
            off_reply=sum(thing not in self._newest for thing in thought),
            age=self._count - 1 - self._last[target] if target in self._last else None,
            on_last=bool(thought) and thought[-1] in last,
            follows=(before, target) in self._pairs,
            ahead=self._ahead(before, target),
        )

    def _ahead(self, before: str, target: str) -> int:
        """How many things after `before` was first named `target` was; 0 where one never was."""
        if before not in self._first or target not in self._first:
            return 0
        return self._first[target] - self._first[before]
