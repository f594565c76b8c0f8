"""Replays: the same panels on a trace, back and forth, and two of them side by side."""

from __future__ import annotations

from dataclasses import replace

from textual.pilot import Pilot

from edge_router.agent.trace import Trace
from tests.recorded import not_won, until, won
from tui.apps.compare import CompareApp
from tui.apps.replay import ReplayApp
from tui.draw.panels import PrecisionStrip
from tui.draw.transcript import Transcript
from tui.state.screenful import Status


def steps_shown(app: ReplayApp) -> list[int]:
    return [len(timeline.episode.done_steps) for timeline in app.timelines]


async def test_it_plays_by_itself_to_the_end_and_again() -> None:
    app = ReplayApp([won()], pace=0.02)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.screenful().status is Status.ENDED)
        assert steps_shown(app) == [7]
        await pilot.press("space")
        await until(pilot, lambda: steps_shown(app) == [7])


async def test_the_scrubber_goes_back_and_forth() -> None:
    app = ReplayApp([won()], paused=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("right", "right", "n")
        assert steps_shown(app) == [3]
        await pilot.press("left")
        assert steps_shown(app) == [2]
        await pilot.press("end")
        assert steps_shown(app) == [7]
        assert app.timelines[0].episode.finished is not None
        await pilot.press("home")
        assert steps_shown(app) == [0]
        await pilot.click(PrecisionStrip, offset=(2 + 7 + 2 * 4, 3))
        assert steps_shown(app) == [5]


async def test_another_pace_stays_where_it_is() -> None:
    app = ReplayApp([won()], paused=True)
    async with app.run_test() as pilot:
        await pilot.press("right", "right")
        app.seek(app.position + 0.7)
        share = app.timelines[0].share_at(app.position)
        await pilot.press("minus", "minus", "plus")
        assert steps_shown(app) == [2]
        assert abs(app.timelines[0].share_at(app.position) - share) < 0.01


async def test_a_trace_that_breaks_off_says_so() -> None:
    cut = Trace(won().started, won().steps[:2], None, "the trace breaks off after 2 steps")
    app = ReplayApp([cut], paused=True)
    async with app.run_test() as pilot:
        await pilot.press("end")
        assert steps_shown(app) == [2]
        assert [n.message for n in app._notifications] == ["The trace breaks off after 2 steps."]


async def test_a_trace_without_a_step_can_be_looked_at() -> None:
    app = ReplayApp([Trace(won().started, (), None)])
    async with app.run_test() as pilot:
        await pilot.press("right", "left", "space", "end", "minus")
        assert steps_shown(app) == [0]


async def test_an_older_trace_without_scores_is_shown() -> None:
    steps = tuple(
        replace(s, routed=replace(s.routed, score=None, thresholds=())) for s in won().steps
    )
    app = ReplayApp([Trace(won().started, steps, won().finished)], paused=True)
    async with app.run_test() as pilot:
        await pilot.press("end")
        assert steps_shown(app) == [7]


async def two(pilot: Pilot[int], app: CompareApp) -> list[str]:
    """What the two transcripts show, as plain text."""
    await pilot.pause()
    texts = []
    for transcript in app.query(Transcript):
        lines = (transcript.render_line(y).text.rstrip() for y in range(transcript.size.height))
        texts.append("\n".join(lines))
    return texts


async def test_two_traces_move_together_and_the_parting_is_marked() -> None:
    app = CompareApp([won(), not_won()], ["a.jsonl", "b.jsonl"], paused=True)
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("right", "right")
        assert steps_shown(app) == [2, 2]
        await pilot.press("end")
        assert steps_shown(app) == [7, 4]
        await pilot.press("home", *["right"] * 5)
        left, right = await two(pilot, app)
        assert "≠ here the runs part" in left
        assert "Nothing happens." in right


async def test_two_games_are_no_comparison() -> None:
    other = replace(won(), started=replace(won().started, game="another/trial_1"))
    app = CompareApp([won(), other], ["a", "b"], paused=True)
    async with app.run_test() as pilot:
        await pilot.press("end")
        left, _ = await two(pilot, app)
        assert "part" not in left
