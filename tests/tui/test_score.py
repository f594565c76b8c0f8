"""A game that counts points: the screen shows them, in play and at the end."""

from __future__ import annotations

from dataclasses import replace

from tests.recorded import not_won
from tui.draw.head import draw_head
from tui.draw.words import outcome
from tui.state.episode import Episode
from tui.state.screenful import Screenful, Status


def scored(scores: tuple[int | None, ...], most: int | None) -> Episode:
    """The recorded game with a score after each step."""
    trace = not_won()
    episode = Episode()
    episode.apply(replace(trace.started, max_score=most))
    for step, score in zip(trace.steps, scores, strict=False):
        for event in (step.started, step.routed, replace(step.finished, score=score)):
            episode.apply(event)
    assert trace.finished is not None
    episode.apply(replace(trace.finished, score=scores[-1], max_score=most))
    return episode


def test_the_outcome_tells_the_score() -> None:
    episode = scored((0, 0, 1, 3), 8)
    assert episode.finished is not None
    assert episode.score == 3
    assert outcome(episode.finished, episode).startswith(
        "Not won: the limit of 4 steps is reached, score 3 of 8"
    )


def test_where_none_is_counted_none_is_told() -> None:
    episode = scored((None,) * 4, None)
    assert episode.finished is not None
    assert episode.score is None
    assert "score" not in outcome(episode.finished, episode)


def test_the_head_shows_the_score_so_far() -> None:
    shown = Screenful(scored((0, 0, 1, 3), 8), status=Status.RUNNING)
    assert "score 3 of 8  step 4 of 4" in draw_head(shown, 120, 4).plain
    shown = Screenful(scored((None,) * 4, None), status=Status.RUNNING)
    assert "score" not in draw_head(shown, 120, 4).plain.split("\n")[0]
