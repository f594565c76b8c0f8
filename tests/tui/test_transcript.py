"""The transcript while a step is written: it follows the text, and redraws little for it."""

from __future__ import annotations

from itertools import pairwise

from textual.pilot import Pilot

from edge_router.agent.events import TextDecoded
from tests.recorded import won
from tui.apps.replay import ReplayApp
from tui.draw.transcript import SCROLLS_BY, Transcript

STEP = 4  # written anew here


async def begin(pilot: Pilot[int], app: ReplayApp) -> Transcript:
    """Show the run up to the decision of a step."""
    app.seek(app.timelines[0].end_of(STEP - 1))
    recorded = won().steps[STEP]
    app.timelines[0].episode.apply(recorded.started)
    app.timelines[0].episode.apply(recorded.routed)
    app.show()
    await pilot.pause(0.1)
    return app.query_one(Transcript)


async def write(pilot: Pilot[int], app: ReplayApp, text: str) -> None:
    app.timelines[0].episode.apply(TextDecoded(STEP, text))
    app.show(text_only=True)
    await pilot.pause(0.02)


def seen(transcript: Transcript) -> str:
    lines = range(transcript.scrollable_content_region.height)
    return "\n".join(transcript.render_line(y).text for y in lines)


async def test_it_follows_the_text_by_several_lines_at_once_and_ends_with_the_last() -> None:
    app = ReplayApp([won()], paused=True)
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = await begin(pilot, app)
        offsets = [transcript.scroll_offset.y]
        for number in range(60):
            await write(pilot, app, f"this_is_word_{number} ")
            assert f"this_is_word_{number}" in seen(transcript)
            offsets.append(transcript.scroll_offset.y)
        assert offsets[-1] > offsets[0]
        jumps = {after - before for before, after in pairwise(offsets)}
        assert jumps == {0, SCROLLS_BY}
        app.timelines[0].episode.apply(won().steps[STEP].finished)
        app.show()
        await pilot.pause(0.1)
        assert transcript.is_vertical_scroll_end
        height = transcript.scrollable_content_region.height
        assert transcript.scroll_offset.y + height == transcript.virtual_size.height
        assert transcript.render_line(height - 2).text.strip()  # an empty one ends every step


async def test_new_text_asks_for_no_layout() -> None:
    app = ReplayApp([won()], paused=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await begin(pilot, app)
        layouts = 0

        def count(_screen: object) -> None:
            nonlocal layouts
            layouts += 1

        app.screen.screen_layout_refresh_signal.subscribe(app, count)
        for _ in range(30):
            await write(pilot, app, "and so on ")
        assert layouts == 0
        await pilot.resize_terminal(90, 24)
        await pilot.pause(0.1)
        assert layouts > 0
