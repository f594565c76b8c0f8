"""How a TextWorld game is put to a model.

General models get rules and a worked game, as turns of a chat. The worked game is none of those
that are shipped: `tw-make custom --seed 23 --world-size 3 --nb-objects 6 --quest-length 5`.
Models that ask for the prompt of another task, on which they were trained, get the bare game.
"""

from __future__ import annotations

from typing import Final

from edge_router.tasks.parse import MARKER, Parsed, parse_step
from edge_router.tasks.protocol import Message, Opening, PromptStyle

RULES: Final = """\
You play a text adventure by giving one command a turn. Commands:
look, inventory, go north (or south, east, west), examine X, open X, close X, take X, \
take X from Y, drop X, put X on Y, insert X into Y, unlock X with Y, lock X with Y, eat X; \
where there is something to cook: cook X with Y, slice X with Y, chop X with Y, dice X with Y, \
prepare meal.
Name things by the words that the game has for them. \
Closed things must be opened before you can see or take what is inside. \
You can go only where an exit is mentioned, and through a door only when it is open.
Answer every turn with one short thought and then one command on a line of its own \
that begins with ">"."""

EXAMPLE: Final = Opening(
    observation="""\
-= Bedroom =-
Okay, so you're in a bedroom, cool, but is it normal? You better believe it is. \
Okay, just remember what you're here to do, and everything will go great.
You see an opened trunk. Empty! What kind of nightmare TextWorld is this?
You need an unblocked exit? You should try going east. \
You need an unblocked exit? You should try going north.""",
    goal="""\
Hey, thanks for coming over to the TextWorld today, there is something I need you to do for me. \
Your first objective is to make an attempt to travel east. Then, make absolutely sure that the \
chest within the cookery is wide open. After opening the chest, retrieve the latchkey from the \
chest. Then, insert the latchkey into the box inside the cookery's lock to unlock it. Then, make \
absolutely sure that the box is opened. And once you've done that, you win!""",
)
# thought, command, the game's reply
STEPS: Final = (
    (
        "I have to go east first, and there is an exit to the east.",
        "go east",
        """\
-= Cookery =-
You've just shown up in a cookery.
You scan the room for a box, and you find a box. You see a chest. You can make out a bowl. \
The bowl is ordinary. Looks like someone's already been here and taken everything off it, though.
There is an unblocked exit to the west.
There is a passkey on the floor.""",
    ),
    (
        "The chest is here. It must be open.",
        "open chest",
        "You open the chest, revealing a latchkey.",
    ),
    (
        "The latchkey is in the chest. I take it.",
        "take latchkey from chest",
        "You take the latchkey from the chest.",
    ),
    (
        "I have the latchkey. It unlocks the box.",
        "unlock box with latchkey",
        "You unlock the box.",
    ),
    (
        "The box is unlocked. I open it.",
        "open box",
        "You open the box.\nYour score has just gone up by one point.\n*** The End ***",
    ),
)


class AdventureStyle(PromptStyle):
    """For general instruct models: rules, a worked game, then the game."""

    name = "react"
    max_tokens = 96
    # a step is over where the model begins to write the game's part
    stop: tuple[str, ...] = ("\nYou ", "\n-= ", "\n\n\n")

    def opening(self, opening: Opening) -> list[Message]:
        *before, last = self.shared(opening)
        return [*before, _user(last["content"] + _start(opening))]

    def shared(self, opening: Opening) -> list[Message]:
        messages = [_user(f"{RULES}\n\n{_start(EXAMPLE)}")]
        for thought, command, reply in STEPS:
            messages.append({"role": "assistant", "content": f"{thought}{MARKER} {command}"})
            messages.append(_user(reply))
        messages[-1]["content"] += "\nHere is a new game.\n\n"
        return messages

    def reply(self, observation: str) -> Message:
        return _user(observation)

    def parse(self, text: str) -> Parsed:
        return parse_step(text)


class BareStyle(AdventureStyle):
    """The game alone, for models that ask for the prompt called `name` of another task."""

    stop: tuple[str, ...] = ()

    note = "This model was trained for another task and will lose: name a chat model (--model)."

    def __init__(self, name: str) -> None:
        self.name = name

    def opening(self, opening: Opening) -> list[Message]:
        return [_user(_start(opening))]

    def shared(self, opening: Opening) -> list[Message]:
        return []


STYLES: Final[tuple[PromptStyle, ...]] = (
    AdventureStyle(),
    BareStyle("household"),
    BareStyle("tuned"),
)


def _start(opening: Opening) -> str:
    return f"{opening.observation}\nYour task: {opening.goal}"


def _user(text: str) -> Message:
    return {"role": "user", "content": text}
