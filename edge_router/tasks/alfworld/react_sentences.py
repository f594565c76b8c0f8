"""The scripted expert's terse thoughts as a person would say them, for general models.

The worked games in prompts are written with it, and so are the games that an
importance matrix is measured on.
"""

from __future__ import annotations

from edge_router.tasks.household.rules import TREATMENTS


def sentence(thought: str, action: str, wanted: str) -> str:
    """The expert's thought before `action` as a person would say it."""
    words = thought.split()
    verb, places = action.split()[0], action.removeprefix("go to ")
    if thought.startswith("plan:"):
        return f"I have to find a {wanted} first. {places} is a likely place for it."
    if thought.startswith("closed"):
        return f"{' '.join(words[1:])} is closed, so I open it."
    if thought.startswith("no "):
        return f"There is no {words[1]} here. I look at {places} next."
    if thought.startswith("see "):
        item, place = " ".join(words[1:3]), " ".join(words[4:])
        return {
            "take": f"There is {item}, which I need. I take it.",
            "use": f"{item} is here. I turn it on.",
            "open": f"{place} is closed, so I open it.",
        }.get(verb, f"I saw {item} at {place}, so I go there.")
    if words[0] in TREATMENTS:
        item, station = " ".join(words[1:3]), " ".join(words[4:])
        if verb == "go":
            return f"I have {item}. It must be {words[0]}ed, so I go to {station}."
        return f"I {words[0]} {item} here."
    if thought.startswith("bring"):
        item, place = " ".join(words[1:3]), " ".join(words[4:])
        return {
            "go": f"{item} is ready. I bring it to {place}.",
            "open": f"{place} is closed, so I open it.",
        }.get(verb, f"I am at {place}. I put {item} down here.")
    raise ValueError(f"a thought without a sentence: {thought!r}")
