"""The thread that plays: it pauses between steps, takes single steps, and ends cleanly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from edge_router.agent.events import (
    EpisodeFinished,
    EpisodeStarted,
    Event,
    Listener,
    Routed,
    StepFinished,
    TextDecoded,
)
from edge_router.errors import UserError
from edge_router.tasks.games import GameRef
from tests.recorded import RecordedSession, games, won
from tui.apps.player import Failed, Happening, Player


@dataclass
class Heard:
    """What a player tells, in order, with the time of each."""

    all: list[Happening] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def __call__(self, happening: Happening) -> None:
        self.all.append(happening)
        self.times.append(time.monotonic())

    def count(self, kind: type) -> int:
        return sum(isinstance(happening, kind) for happening in self.all)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + 300
        while not condition():
            assert time.monotonic() < give_up, self.all[-3:]
            time.sleep(0.002)


@contextmanager
def player(
    session: RecordedSession | None = None, *, pace: float = 0.0, paused: bool = False
) -> Iterator[tuple[Player, Heard]]:
    heard = Heard()
    made = Player(session or RecordedSession(), heard, pace=pace)
    made.paused = paused
    made.start(games()[0])
    try:
        yield made, heard
    finally:
        made.close()
        assert made.join(300)


def still(heard: Heard) -> bool:
    """Whether nothing more comes for a while."""
    before = len(heard.all)
    time.sleep(0.1)
    return len(heard.all) == before


def test_a_game_is_played_to_its_end_at_full_speed() -> None:
    with player() as (_, heard):
        heard.wait_for(lambda: heard.count(EpisodeFinished) == 1)
        assert heard.count(StepFinished) == 7


def test_paused_it_takes_as_many_steps_as_asked_for() -> None:
    with player(paused=True) as (made, heard):
        heard.wait_for(lambda: heard.count(EpisodeStarted) == 1)
        assert still(heard)
        made.one_step()
        made.one_step()
        heard.wait_for(lambda: heard.count(StepFinished) == 2)
        assert still(heard)
        made.paused = False
        heard.wait_for(lambda: heard.count(EpisodeFinished) == 1)


def test_one_step_of_a_running_game_pauses_it() -> None:
    with player(pace=1000) as (made, heard):
        heard.wait_for(lambda: heard.count(EpisodeStarted) == 1)
        made.one_step()
        heard.wait_for(lambda: heard.count(StepFinished) == 1)
        assert made.paused
        assert still(heard)


def test_pausing_lets_the_step_in_hand_end() -> None:
    with player(pace=1000) as (made, heard):
        made.one_step()
        heard.wait_for(lambda: heard.count(StepFinished) == 1)
        made.paused = False  # waits for the pace now
        made.pace = 0.5
        heard.wait_for(lambda: heard.count(Routed) == 2)
        made.paused = True
        heard.wait_for(lambda: heard.count(StepFinished) == 2)
        assert still(heard)


def test_the_pace_is_kept_between_steps_and_never_while_text_is_decoded() -> None:
    with player(pace=0.2) as (_, heard):
        heard.wait_for(lambda: heard.count(StepFinished) == 3)
        said = list(zip(heard.all, heard.times, strict=True))
        ends = [t for h, t in said if isinstance(h, StepFinished)]
        assert ends[2] - ends[1] >= 0.15
        written = [t for h, t in said if isinstance(h, TextDecoded) and h.step == 0]
        assert written[-1] - written[0] < 0.1


def test_a_faster_pace_counts_at_once() -> None:
    with player(pace=1000) as (made, heard):
        heard.wait_for(lambda: heard.count(EpisodeStarted) == 1)
        made.pace = 0.0
        heard.wait_for(lambda: heard.count(EpisodeFinished) == 1)


def test_closing_in_mid_game_is_an_interruption_that_all_listeners_hear() -> None:
    with player(paused=True) as (made, heard):
        made.one_step()
        heard.wait_for(lambda: heard.count(StepFinished) == 1)
    finished = heard.all[-1]
    assert isinstance(finished, EpisodeFinished)
    assert finished.reason == "interrupted"


def test_another_game_takes_the_place_of_the_one_being_played() -> None:
    session = RecordedSession()
    with player(session, paused=True) as (made, heard):
        heard.wait_for(lambda: heard.count(EpisodeStarted) == 1)
        made.start(games()[4])
        made.start(games()[5])  # before the first has ended: only the last one counts
        made.paused = False
        heard.wait_for(lambda: heard.count(EpisodeFinished) == 2)
        assert still(heard)
    assert session.played[0] == games()[0]
    assert session.played[-1] == games()[5]
    assert heard.all[-1] == won().finished


class Breaking(RecordedSession):
    """Raises after two steps, once."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error

    def play(self, game: GameRef, listeners: Sequence[Listener]) -> EpisodeFinished:
        def breaks(event: Event) -> None:
            if isinstance(event, StepFinished) and event.step == 1 and self.error is not None:
                error, self.error = self.error, None
                raise error

        return super().play(game, [*listeners, breaks])


@pytest.mark.parametrize("error", [UserError("the game is damaged"), RuntimeError("a bug")])
def test_a_game_that_fails_is_shown_and_the_next_one_can_be_played(error: Exception) -> None:
    with player(Breaking(error)) as (made, heard):
        heard.wait_for(lambda: heard.count(Failed) == 1)
        failed = heard.all[-1]
        assert isinstance(failed, Failed)
        assert failed.error is error
        made.start(games()[1])
        heard.wait_for(lambda: heard.count(EpisodeFinished) == 1)


def test_the_thread_ends_when_nothing_was_played() -> None:
    made = Player(RecordedSession(), Heard())
    made.close()
    assert made.join(10)
