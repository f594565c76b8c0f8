"""Read a model's step: forgiving in form, strict in meaning.

A step is a thought and an action. The action is what stands behind the last
marker ("> go to desk 1", "Action: go to desk 1", "act: ..."), without quotes,
backticks or a closing period. Where there is no marker the last line that says
something goes to the environment as it stands: its "Nothing happens." is then
a reply the model can learn from. No command is guessed or repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MARKER = "\n>"  # between thought and action, in every style
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_ACTION = re.compile(r"^[ \t]*(?:>|(?:action|act)[ \t]*:)[ \t]*(?!>)(\S.*)$", re.IGNORECASE | re.M)
_THOUGHT = re.compile(r"^(?:think|thought|thoughts)[ \t]*:[ \t]*", re.IGNORECASE)
_WRAPPING = "\"'`*[]<>"


@dataclass(frozen=True)
class Parsed:
    """A step as the loop uses it; `thought` may be empty, and so may `action`."""

    thought: str
    action: str


def parse_step(text: str) -> Parsed:
    """Split a step into thought and action; never raises."""
    said = _THINKING.sub("", text).strip()
    matches = list(_ACTION.finditer(said))
    if matches:
        last = matches[-1]
        return Parsed(_clean_thought(said[: last.start()]), _clean_action(last.group(1)))
    lines = [line for line in said.splitlines() if line.strip()]
    if not lines:
        return Parsed("", "")
    return Parsed(_clean_thought("\n".join(lines[:-1])), _clean_action(lines[-1]))


def _clean_thought(text: str) -> str:
    return _THOUGHT.sub("", text.strip())


def _clean_action(text: str) -> str:
    text = text.strip().strip(_WRAPPING).strip()
    return " ".join(text.removesuffix(".").split()).strip(_WRAPPING).strip()
