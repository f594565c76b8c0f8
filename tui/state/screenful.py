"""Everything that the screen shows, as plain data; whoever fills it knows where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from edge_router.agent.events import EpisodeStarted
from tui.draw.look import Look
from tui.state.episode import Episode


class Status(Enum):
    """What the app is doing; the value is its sign and word on the screen."""

    LOADING = "◌ loading"
    RUNNING = "▶ running"
    PAUSED = "‖ paused"
    BACK = "◂ looking back"
    STOPPING = "■ stopping"
    ENDED = "■ ended"
    FAILED = "✗ failed"


@dataclass(frozen=True)
class Ahead:
    """What a replay knows of the steps after the one that is shown."""

    tiers: tuple[int, ...]  # of all recorded steps
    marked: int | None = None  # index of the step where two runs part


@dataclass(frozen=True)
class Service:
    """What is to be said of a server beside its requests, which are the episode's steps."""

    name: str  # of the model that is served
    url: str
    slots: int
    answered: int = 0
    failed: int = 0
    waiting: int = 0
    talks: int = 0  # conversations so far
    talk: int | None = None  # the one that is shown alone


@dataclass
class Screenful:
    """`dial` None: there is none to turn (a replay)."""

    episode: Episode = field(default_factory=Episode)
    look: Look = field(default_factory=lambda: Look(dark=True))
    status: Status = Status.LOADING
    phase: str = ""  # what is waited for while the status is LOADING
    problem: str = ""  # the sentence to show when the status is FAILED
    ahead: Ahead | None = None
    forced: int | None = None  # tier that the next step must take
    dial: float | None = None
    heeds_dial: bool = True
    pace: float = 0.0
    won: int = 0
    played: int = 0
    beside: Episode | None = None  # another run, drawn on the same scales and with one legend
    note: str = ""  # that the machine is not ours alone
    title: str = ""  # in place of the goal, for a trace beside another
    service: Service | None = None  # a server is watched, and no game is played

    @property
    def shares_legend(self) -> bool:
        """Whether one legend of the tiers serves this run and the one beside it."""
        mine, other = self.episode.started, self.beside.started if self.beside else None
        return mine is not None and other is not None and _kinds(mine) == _kinds(other)

    @property
    def unit(self) -> str:
        """What a column of the strip is."""
        return "request" if self.service else "step"

    @property
    def count(self) -> int:
        """Number of tiers."""
        return len(self.episode.tiers)

    def colour(self, tier: int) -> str:
        return self.look.tier(tier, self.count)


def _kinds(started: EpisodeStarted) -> list[tuple[str, int]]:
    """What a legend says of the tiers."""
    return [(tier.name, tier.size_bytes) for tier in started.tiers]
