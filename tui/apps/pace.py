"""The pace: how long a step stays on the screen at least. `+` is faster, `-` slower, everywhere."""

from __future__ import annotations

from typing import Final

PACES: Final = (6.0, 3.0, 1.5, 1.0, 0.5, 0.25, 0.1, 0.0)  # seconds, from slow to fast
SLOWER, FASTER = -1, 1


def next_pace(pace: float, direction: int) -> float:
    """The next notch in a direction; at the end the same one."""
    now = min(range(len(PACES)), key=lambda i: abs(PACES[i] - pace))
    return PACES[min(len(PACES) - 1, max(0, now + direction))]


def in_words(pace: float) -> str:
    """The pace, for a panel."""
    return f"at least {pace:g} s a step on screen" if pace else "full speed"


def change_of(before: float, pace: float, direction: int) -> str:
    """What a key for the pace has done, in one sentence."""
    if before != pace:
        how = "Slower" if direction == SLOWER else "Faster"
        return f"{how}: {in_words(pace)}."
    end = "slowest" if direction == SLOWER else "fastest"
    return f"That is the {end} pace: {in_words(pace)}."
