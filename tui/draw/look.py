"""Colours and signs. Nothing rests on colour alone: every tier has a sign, every stage a pattern.

The tiers' colours run from blue over pink (purple on light themes) to orange. They were searched
for among such triples: each has a contrast of 4.5 or more to its ground, and every two stay apart
also for eyes without red, green or blue cones; a test proves both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

SIGNS = "○◔◑◕●"  # fuller is more precise
_DARK = ("#4aa3ff", "#e6b8d4", "#ff8c1a")
_LIGHT = ("#005cb8", "#4a1259", "#915108")
BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Stage:
    """A part of a step's time."""

    field: str  # of `Latency`
    plain: str
    usual: str  # in the project's words
    short: str
    pattern: str


STAGES = (
    Stage("load_ms", "loads", "load", "load", "╌"),
    Stage("prefill_ms", "reads", "prefill", "read", "░"),
    Stage("route_ms", "decides", "route", "pick", "│"),
    Stage("draft_ms", "drafts", "draft", "try", "▚"),
    Stage("handoff_ms", "hands over", "handoff", "hand", "▒"),
    Stage("catchup_ms", "catches up", "catch-up", "catch", "▓"),
    Stage("verify_ms", "checks", "verify", "check", "▞"),
    Stage("decode_ms", "writes", "decode", "write", "█"),
)


@dataclass(frozen=True)
class Look:
    """The colours of a theme, as rich colour names."""

    dark: bool

    def tier(self, index: int, count: int) -> str:
        """A tier's colour; `index` 0 is the low tier of `count`."""
        return _between(_DARK if self.dark else _LIGHT, index, count)

    def stage(self, stage: Stage, tier: str) -> str:
        """A stage's colour; writing has the colour of the tier that wrote."""
        if stage.field == "decode_ms":
            return tier
        if stage.field in ("handoff_ms", "catchup_ms", "draft_ms", "verify_ms"):
            return "#2fb68d" if self.dark else "#00694c"
        return self.soft

    @property
    def soft(self) -> str:
        """For what is beside the point."""
        return "#8c96a8" if self.dark else "#5c6470"

    @property
    def faint(self) -> str:
        """For what is not there yet."""
        return "#4a5262" if self.dark else "#b4bac4"

    @property
    def good(self) -> str:
        return "#7fd1a8" if self.dark else "#00694c"

    @property
    def bad(self) -> str:
        return "#ff8f7a" if self.dark else "#b3261e"

    @property
    def strong(self) -> str:
        return "#ffffff" if self.dark else "#000000"


def sign(index: int, count: int) -> str:
    """A tier's sign: an empty circle for the low tier, a full one for the high tier."""
    if count <= 1:
        return SIGNS[-1]
    return SIGNS[round(index * (len(SIGNS) - 1) / (count - 1))]


def word(index: int, count: int) -> str:
    """What a tier is, for somebody who reads its name for the first time."""
    if count <= 1:
        return "the only one"
    if index == 0:
        return "smallest"
    return "most precise" if index == count - 1 else "in between"


@cache
def _between(colours: tuple[str, ...], index: int, count: int) -> str:
    """The colour at `index` of `count` on the way through `colours`."""
    where = index * (len(colours) - 1) / max(1, count - 1)
    low = min(int(where), len(colours) - 2)
    share = where - low
    mixed = (
        round(a + (b - a) * share)
        for a, b in zip(_rgb(colours[low]), _rgb(colours[low + 1]), strict=True)
    )
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
