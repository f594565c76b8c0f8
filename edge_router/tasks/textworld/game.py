"""A TextWorld game behind the `Game` protocol: which commands reach it, and what a model reads.

A game's interpreter has commands that are not part of the game: they write files, start it
anew, or end the program. None of them reaches it; a model that tries is told what the game says of
words that it does not know.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from edge_router.errors import UserError
from edge_router.tasks.protocol import Opening, Reply
from edge_router.tasks.textworld import engine
from edge_router.tasks.textworld.game_files import NAME, read_about


class TextworldGame:
    """One game on TextWorld's engine; `path` is the .z8, the .json lies beside it."""

    task = NAME

    def __init__(self, path: str | Path, game_id: str = "") -> None:
        """Check both files and load no engine yet. Raises UserError when they are no game."""
        self.path = Path(path).absolute()  # the engine has a folder of its own
        self.about = read_about(Path(path))
        self.id = game_id or self.path.stem
        self.kind = self.about.kind
        self._engine: engine.Engine | None = None
        self._state: dict[str, Any] | None = None
        self._last: Reply | None = None

    def reset(self) -> Opening:
        """Start the game anew.

        Raises UserError when the engine rejects the game, and MachineError when this machine
        cannot run the engine.
        """
        self._last = None
        if self._engine is None or not self._engine.usable:
            self._engine = engine.take()
            self._ask({"load": str(self.path)})
        self._state = self._ask({"reset": True})
        return Opening(
            opening_text(self._state["text"]), self.about.objective, self.about.max_score
        )

    def step(self, action: str) -> Reply:
        """Play one command. Where the game is over, every command gets its last reply.

        Raises what `reset` raises.
        """
        if self._state is None:
            raise RuntimeError("TextworldGame: call reset() first")
        if self._last is not None and self._last.done:
            return self._last
        command = as_typed(action)
        if is_outside(command):
            return Reply(UNKNOWN, done=False, won=False, score=self._state["score"])
        self._state = state = self._ask({"step": command})
        self._last = Reply(
            reply_text(state["text"]),
            done=state["won"] or state["lost"],
            won=state["won"],
            score=state["score"],
        )
        return self._last

    def admissible(self) -> tuple[str, ...]:
        """The commands accepted now, sorted. The engine has them at hand after every step."""
        if self._state is None:
            raise RuntimeError("TextworldGame: call reset() first")
        return tuple(self._state["admissible"])

    def close(self) -> None:
        """Give the engine back for the next game; a later `reset` takes one again."""
        if self._engine is not None:
            engine.give_back(self._engine)
        self._engine = self._state = None

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._engine is not None
        try:
            return self._engine.ask(message)
        except engine.RejectedError as error:
            self.close()
            said = " ".join(str(error).split())
            raise UserError(f"TextWorld cannot play {self.path}: {said}.") from error


# -- what is typed, and what is read --------------------------------------------------------------

LONGEST: Final = 190  # bytes; the interpreter has room for 198
UNKNOWN: Final = "That's not a verb I recognise."  # Inform's own sentence

# The interpreter takes "\help" and the like as orders to itself and waits for ever for an end; a
# slash in an answer to "which file?" would name one outside its folder.
_NOT_SAID: Final = re.compile(r"[^A-Za-z0-9 '\"\-.,;:!?()]")
_OUTSIDE: Final = """
quit q restart restore save verify version script transcript noscript unscript notify
superbrief short verbose long brief normal pronouns nouns undo oops o
restrict enable disable print_state
"""
# For whoever tests a game; tw-make leaves them out, other makers may not.
_TESTING: Final = """
abstract actions changes gonear glklist messages purloin random recording relations replay
routines rules scope showheap showme showobj showverb test timers trace tree
"""
_META: Final = frozenset((_OUTSIDE + _TESTING).split())
_NEXT: Final = re.compile(r"[.,;:]|\bthen\b|\band\b")  # what several commands are joined by

# How the sentences begin that Inform and tw-make's games have for what is not possible; a remark
# in brackets ("(first taking the key)") may stand before them.
_IT: Final = "(?:It|They|That|This|Those|These|But (?:it|they|that|those))"
REFUSED: Final = re.compile(
    r"(?:\([^)]*\)\s*)*(?:"
    r"That's not a verb I recognise|I (?:didn't understand|only understood|beg your pardon)"
    r"|(?:What|Which|Who|Where) do you (?:want|mean)"
    r"|You (?:can't|cannot|aren't|haven't|lack|need to|have to|must|would have to"
    r"|already have|seem to want|excepted|can only|are always)\b"
    r"|You're (?:already|carrying too many|hardly|plainly)|You'll have to"
    rf"|{_IT}(?:'s| is|'re| are) (?:already|fixed|hardly|plainly|not something|locked)"
    rf"|{_IT} (?:isn't|aren't|doesn't|don't|can't|seem to)\b|{_IT} seems to (?:be|belong)\b"
    r"|The [^.\n]* (?:is|are) (?:already|fixed|closed)\b"
    r"|There (?:is|are) (?:no|none|nothing|not) (?:more room|door|at all|enough)"
    r"|Putting things on|First you|Can only |Nothing to "
    r")"
)

_PROMPT: Final = re.compile(r"(?:>?[ ]{10}|\n>)[^\n]*\Z")  # ">", spaces and the status line
_BLANK: Final = re.compile(r"[ \t]*\n\s*\n|[ \t]+\n")
_END: Final = re.compile(r"(\*\*\*[^*\n]+\*\*\*).*", re.DOTALL)
_ROOM: Final = "-= "


def as_typed(action: str) -> str:
    """An action as one line of plain characters that the interpreter has room for."""
    return " ".join(_NOT_SAID.sub(" ", action).split())[:LONGEST].rstrip()


def is_outside(command: str) -> bool:
    """Whether a command, or a part of it, is none of the game's."""
    parts = (part.split() for part in _NEXT.split(command.lower()))
    return any(p[0] in _META or p[0].startswith("tw-") for p in parts if p)


def reply_text(said: str) -> str:
    """The game's words without prompt, status line, blank lines and what follows its end."""
    text = _END.sub(r"\1", _PROMPT.sub("", said))
    return "\n".join(line.strip() for line in _BLANK.sub("\n", text).split("\n")).strip()


def opening_text(said: str) -> str:
    """The first room: banner and objective stand before it."""
    at = said.find(_ROOM)
    return reply_text(said[max(at, 0) :])
