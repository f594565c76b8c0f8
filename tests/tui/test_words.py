"""What the app says and draws: words, estimates, the strip, the line of time."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.agent.events import Latency, Routed, StepFinished
from edge_router.bench.decisions import CONTEXT
from edge_router.router.features import Draft, Wording, extract, with_draft
from edge_router.router.spec import RouterSpec
from tests.recorded import not_won, won
from tests.sample_episode import EPISODE, FINISHED, STARTED, step_events
from tui.apps.compare import complete, verdict
from tui.apps.picker import described
from tui.draw.head import headline
from tui.draw.look import SIGNS, Look, sign
from tui.draw.strip import Columns, columns, draw_strip, height_of, limits_of
from tui.draw.time import draw_time, legend
from tui.draw.transcript import blocks
from tui.draw.why import draw_why
from tui.draw.words import (
    because,
    certainty,
    megabytes,
    milliseconds,
    number,
    outcome,
    percent,
    troubles,
    wording,
)
from tui.state.episode import Episode, Timeline, first_difference
from tui.state.estimate import always_high, handed_over
from tui.state.screenful import Screenful


def episode(events: object = EPISODE) -> Episode:
    made = Episode()
    assert isinstance(events, tuple)
    for event in events:
        made.apply(event)
    return made


def routed(**changes: object) -> Routed:
    plain = Routed(0, "q3_k_m", 0, "entropy 0.1 < 0.4", None, {}, 0.1, (0.4, 0.8))
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chances", "said"),
    [
        ((0.48, 0.41, 0.02, 0.01), "unsure between 2 tokens: 0.48 / 0.41"),
        ((0.4, 0.3, 0.2, 0.06), "unsure between 4 tokens: 0.40 / 0.30 / 0.20 / 0.06"),
        ((0.2, 0.2, 0.2, 0.1), "unsure between 4 tokens and more: 0.20 / 0.20 / 0.20 / 0.10"),
        ((0.6, 0.04, 0.04, 0.04), "unsure: its best token has only 0.60"),
        ((0.95, 0.05, 0.0, 0.0), "95 % sure of its next token"),
        ((0.9997, 0.0, 0.0, 0.0), "99.97 % sure of its next token"),
        ((0.99999999, 0.0, 0.0, 0.0), "over 99.999 % sure of its next token"),
    ],
)
def test_certainty_is_put_into_words(chances: tuple[float, ...], said: str) -> None:
    assert certainty(dict(zip(("p1", "p2", "p3", "p4"), chances, strict=True))) == said


@pytest.mark.parametrize(
    ("age", "said"),
    [(0, "0 words back"), (1, "1 word back"), (12, "12 words back"), (None, "never or long ago")],
)
def test_the_wording_of_a_draft_is_put_into_words(age: int | None, said: str) -> None:
    features = extract(np.zeros(3, np.float32), CONTEXT)
    draft = Draft((), 0, 0, 0, 0, Wording(age=age, follows=age == 12))
    seen = with_draft(features, draft)
    lines = dict(wording(dict(zip(seen.names, map(float, seen.vector), strict=True))))
    assert lines["what its command is about was named"] == said
    assert lines["and stood next to what the last one was about"] == ("yes" if age == 12 else "no")


def test_traces_from_before_the_wording_was_read_say_nothing_of_it() -> None:
    assert wording({"draft_min_p": 0.5}) == []


def test_troubles_are_shown_and_nothing_else() -> None:
    assert troubles({"refused_run": 0.2, "repeats": 0.4}) == [
        "the last command was refused",
        "the last command had been given 2 times before",
    ]
    assert troubles({"refused_run": 1.0}) == ["5 or more commands in a row were refused"]
    assert troubles({"refused_run": 0.0, "repeats": 0.0}) == []
    assert troubles({"draft_repeats": 0.2, "draft_refused": 0.4}) == [
        "the draft's command has been given once before",
        "the draft's command has been refused 2 times before",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0"), (1.32, "1.32"), (0.0041, "0.004"), (0.00148, "0.0015"), (1e-6, "under 0.0001")],
)
def test_small_numbers_stay_readable(value: float, said: str) -> None:
    assert number(value) == said


def test_units_suit_their_size() -> None:
    assert [milliseconds(x) for x in (0.26, 45.1, 928.4, 1940, 16123)] == [
        *("0.3 ms", "45.1 ms", "928 ms", "1.94 s", "16.1 s")
    ]
    assert [megabytes(x) for x in (2_799_328, 380_000_000, 1_830_000_000)] == [
        *("2.8 MB", "380 MB", "1.83 GB")
    ]
    assert percent(1.0) == "100 %"


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (routed(), "the low tier's doubt is under the limit"),
        (routed(tier_index=2, score=0.9), "the low tier's doubt is over the limit"),
        (routed(decide_at="draft"), "the router trusts its draft"),
        (routed(tier_index=2, decide_at="draft"), "the router doubts the low tier's draft"),
        (routed(tier_index=2, decide_at="draft", forced=True), "you forced it"),
        (routed(tier_index=2, forced=True), "you forced it"),
        (routed(score=None, thresholds=(), reason="always the low tier"),
         "the router always takes the low tier"),
        (routed(score=None, thresholds=(), reason="the last command was refused", tier_index=2),
         "the last command was refused"),
    ],
)  # fmt: skip
def test_a_decision_has_a_reason_anyone_can_read(decision: Routed, said: str) -> None:
    assert because(decision, STARTED) == said


def test_a_router_that_reads_the_draft_tells_of_the_draft_and_not_of_the_next_token() -> None:
    chances = {"p1": 0.95, "p2": 0.05, "draft_min_p": 0.41, "action_min_p": 0.9998}
    decided = routed(
        tier="q8_0", tier_index=2, score=0.99, thresholds=(0.5,), reason="p(escalate) 0.99 >= 0.50",
        decide_at="draft", draft="bring soap\n> go to sofa 1", features=chances,
    )  # fmt: skip
    s = Screenful(episode=episode((STARTED, decided)))
    said = draw_why(s, 60, 20).plain
    assert "the router doubts the low tier's draft." in said
    assert "the draft's least sure word: 41 %\n" in draw_why(s, 36, 3).plain + "\n"
    assert "least sure word of its command: 99.98 %" in said
    assert "next token" not in said
    assert "q8_0 writes step 1: the router doubts the low tier's draft." in headline(s).plain


@pytest.mark.parametrize("width", [27, 36, 60])
def test_the_limit_is_told_where_there_is_little_room(width: int) -> None:
    decided = routed(score=0.00001, thresholds=(0.5,), reason="p(escalate) 0.00 < 0.50")
    said = draw_why(Screenful(episode=episode((STARTED, decided))), width, 8).plain
    assert "under the limit 0.50" in " ".join(said.split())


def test_the_legend_of_times_has_room_for_drafts_at_80_columns() -> None:
    drafted = replace(finished(0, 2), latency=replace(finished(0, 2).latency, draft_ms=3.0))
    shown = Episode(STARTED)
    shown.apply(drafted)
    said = legend(Screenful(episode=shown), 36)
    assert said.plain == "░read │pick ▚try ▒hand ▓catch █write"


def test_every_ending_has_a_sentence() -> None:
    said = {r: outcome(replace(FINISHED, won=r == "won", reason=r), episode()) for r in
            ("won", "lost", "out of steps", "interrupted")}  # fmt: skip
    assert said["won"].startswith("Won in 3 steps")
    assert said["lost"].startswith("Lost after 3 steps")
    assert said["out of steps"].startswith("Not won")
    assert said["interrupted"].startswith("Stopped after 3 steps")


def finished(step: int, tier: int, **latency: float) -> StepFinished:
    event = step_events(step, "> look", "look", tier=tier)[-1]
    assert isinstance(event, StepFinished)
    return replace(event, latency=Latency(**latency))  # type: ignore[arg-type]


def test_the_estimate_takes_the_high_tiers_own_rates() -> None:
    steps = [
        finished(0, 0, prefill_ms=100, prefill_tokens=50, decode_ms=40, decode_tokens=10),
        finished(1, 2, prefill_ms=20, prefill_tokens=10, decode_ms=200, decode_tokens=10),
        # of these 15 tokens 10 are what the high tier wrote, read again by the low tier
        finished(2, 0, prefill_ms=30, prefill_tokens=15, decode_ms=40, decode_tokens=10),
    ]
    guess = always_high(steps, 2)
    assert guess is not None
    # 2 ms a token read (50 + 10 + 5), 20 ms a token written (30)
    assert guess.ms == pytest.approx(65 * 2 + 30 * 20)
    assert guess.reads_as_low


def test_its_own_reading_speed_counts_where_it_was_measured() -> None:
    steps = [
        finished(0, 2, prefill_ms=100, prefill_tokens=50, catchup_ms=200, catchup_tokens=50,
                 decode_ms=200, decode_tokens=10),
    ]  # fmt: skip
    guess = always_high(steps, 2)
    assert guess is not None
    assert guess.ms == pytest.approx(50 * 4 + 10 * 20)
    assert not guess.reads_as_low


def test_there_is_no_estimate_before_the_high_tier_has_written() -> None:
    assert always_high([finished(0, 0, decode_ms=1, decode_tokens=1)], 2) is None
    assert always_high([], 2) is None


def test_what_handing_over_saved_is_counted_in_reading_time() -> None:
    steps = [
        finished(0, 0, prefill_ms=100, prefill_tokens=50),
        finished(1, 2, prefill_ms=20, prefill_tokens=10, handoff_ms=3, handoff_tokens=60),
    ]
    saved = handed_over(steps)
    assert (saved.tokens, saved.ms) == (60, 3)
    assert saved.saved_ms == pytest.approx(117)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_signs_and_colours_run_from_low_to_high(count: int) -> None:
    signs = [sign(i, count) for i in range(count)]
    assert signs[-1] == SIGNS[-1]
    assert sorted(signs, key=SIGNS.index) == signs
    if 1 < count <= 5:
        assert len(set(signs)) == count
    for look in (Look(dark=True), Look(dark=False)):
        assert len({look.tier(i, count) for i in range(count)}) == count


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# What a colour is to an eye without red, green or blue cones: matrices on linear RGB from
# Machado, Oliveira and Fernandes (2009), severity 1.
BLIND = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216),
               (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
               (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602),
               (0.004733, 0.691367, 0.303900)),
}  # fmt: skip


def seen(colour: str, eye: str) -> list[float]:
    rgb = [(int(colour[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5)]
    mixed = [sum(m * c for m, c in zip(row, rgb, strict=True)) for row in BLIND[eye]]
    return [max(0.0, c) ** (1 / 2.2) for c in mixed]


@pytest.mark.parametrize("eye", BLIND)
@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_colour_blind_eyes_tell_the_tiers_apart(eye: str, dark: bool, count: int) -> None:
    colours = [seen(Look(dark).tier(i, count), eye) for i in range(count)]
    for a, b in combinations(colours, 2):
        assert sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5 > 0.3


@pytest.mark.parametrize(("dark", "ground"), [(True, "#121212"), (False, "#e0e0e0")])
def test_words_stand_out_from_their_ground(dark: bool, ground: str) -> None:
    look = Look(dark)
    for colour in (*(look.tier(i, 3) for i in range(3)), look.soft, look.good, look.bad):
        light, deep = sorted((luminance(colour), luminance(ground)), reverse=True)
        assert (light + 0.05) / (deep + 0.05) >= 4.5, colour  # WCAG AA


def test_scores_and_limits_stand_on_one_scale() -> None:
    assert height_of(routed(score=0.8)) == pytest.approx(0.5)
    assert limits_of(routed()) == [pytest.approx(1 / 3), pytest.approx(1 / 2)]
    likely = routed(score=0.7, probability=0.7, thresholds=(0.6,))
    assert (height_of(likely), limits_of(likely)) == (0.7, [0.6])
    assert height_of(routed(score=None, thresholds=())) is None
    endless = routed(thresholds=(float("inf"), float("inf")))
    assert height_of(endless) == 0.0


@settings(deadline=None)
@given(st.floats(0, 50), st.floats(1e-4, 5))
def test_a_bar_is_over_the_line_exactly_when_the_score_is(score: float, limit: float) -> None:
    decision = routed(score=score, thresholds=(limit,))
    height = height_of(decision)
    assert height is not None
    if abs(score - limit) > 1e-9:
        assert (height > limits_of(decision)[0]) == (score > limit)


def strip(max_steps: int, steps: int, width: int) -> tuple[Screenful, Columns]:
    made = episode((replace(STARTED, max_steps=max_steps),))
    for index in range(steps):
        for event in step_events(index, "> look", "look"):
            made.apply(event)
    s = Screenful(episode=made)
    return s, columns(s, width)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 400), st.integers(0, 400), st.integers(9, 220))
def test_the_strip_always_shows_the_newest_step_and_fits(
    limit: int, steps: int, width: int
) -> None:
    steps = min(limit, steps)
    s, shape = strip(limit, steps, width)
    assert shape.first <= max(0, steps - 1) < shape.first + shape.shown
    for row in draw_strip(s, width, 5).split():
        assert row.cell_len <= width


@pytest.mark.parametrize("width", range(20, 80))
def test_the_number_of_a_step_is_whole_or_left_out(width: int) -> None:
    s, shape = strip(50, 5, width)
    _, *numbers = draw_strip(s, width, 5).plain.split("\n")[-1].split()
    assert numbers
    assert all(number == "1" or int(number) % 5 == 0 for number in numbers), (numbers, shape)


def test_a_click_finds_the_step_under_it() -> None:
    _, shape = strip(10, 3, 47)
    assert shape == Columns(0, 10, 4)
    assert [shape.step_at(x) for x in (0, 6, 7, 10, 11, 46, 47)] == [None, None, 0, 0, 1, 9, None]


@pytest.mark.parametrize("width", [20, 38, 60, 100])
@pytest.mark.parametrize("height", [1, 4, 12])
def test_nothing_is_wider_or_higher_than_its_panel(width: int, height: int) -> None:
    from tui.draw.head import draw_head
    from tui.draw.sofar import draw_sofar
    from tui.draw.why import draw_why

    for shown in (Episode(), episode(), episode(EPISODE[:3]), complete(won())):
        for dial in (None, 0.35):
            s = Screenful(episode=shown, dial=dial, forced=2 if shown.started else None)
            for draw in (draw_head, draw_strip, draw_time, draw_sofar, draw_why):
                rows = draw(s, width, height).split()
                assert len(rows) <= height
                assert max((row.cell_len for row in rows), default=0) <= width, draw


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (80, "○ 5.2  ◑ 5.2  ● 5.2 MB, 3.1 MB of each to remember the text"),
        (60, "○ 5.2  ◑ 5.2  ● 5.2 MB, 3.1 MB each for the text"),
        (46, "○ 5.2  ◑ 5.2  ● 5.2 MB, text incl."),
        (36, "○ 5.2  ◑ 5.2  ● 5.2 MB"),
    ],
)
def test_memory_counts_weights_and_what_the_text_takes(width: int, said: str) -> None:
    from tui.draw.sofar import draw_sofar

    tiers = tuple(replace(tier, kv_bytes=3_145_728) for tier in STARTED.tiers)
    rows = draw_sofar(Screenful(episode=episode((replace(STARTED, tiers=tiers),))), width, 12)
    (memory,) = (row for row in rows.plain.splitlines() if row.startswith("memory"))
    assert memory.removeprefix("memory").strip() == said
    rows = draw_sofar(Screenful(episode=episode((STARTED,))), width, 12)
    assert "memory    ○ 2.1  ◑ 2.1  ● 2.1 MB\n" in rows.plain  # an older trace


def test_a_trained_router_is_named_by_its_folder_and_file() -> None:
    assert (
        RouterSpec.parse("onnx:/home/x/household/router.onnx").short == "onnx:household/router.onnx"
    )
    assert RouterSpec.parse("onnx:router.onnx").short == "onnx:router.onnx"
    assert RouterSpec.parse("entropy:0.3").short == "entropy:0.3"


def test_a_model_cannot_steer_the_terminal_through_the_transcript() -> None:
    made = episode((STARTED, *step_events(0, "\x1b[2J\x07> look\x9b1m", "look")))
    text = "".join(t.plain for b in blocks(Screenful(episode=made)) for t in b.draw(60))
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)


def test_only_the_step_that_is_written_is_drawn_anew() -> None:
    made = episode(EPISODE[:4])
    before = [b.key for b in blocks(Screenful(episode=made))]
    made.apply(EPISODE[4])
    after = [b.key for b in blocks(Screenful(episode=made))]
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]


def test_runs_part_where_the_commands_differ() -> None:
    one, other = complete(won()), complete(not_won())
    assert first_difference(one, one) is None
    assert first_difference(one, other) == 4
    said = verdict([won(), not_won()], [one, other], 4)
    assert said.startswith("The runs give the same commands up to step 4 and part at step 5")
    assert "out of steps in 4 steps" in said


def test_a_line_of_time_keeps_the_runs_own_pace_or_the_one_asked_for() -> None:
    trace = won()
    real = sum(s.finished.latency.model_ms + s.finished.latency.env_ms for s in trace.steps) / 1000
    assert Timeline(trace).length == pytest.approx(real, rel=0.01)
    assert Timeline(trace, speed=2).length == pytest.approx(real / 2, rel=0.01)
    assert Timeline(trace, pace=3).length == pytest.approx(21)


@settings(deadline=None)
@given(st.lists(st.floats(0, 22), max_size=8))
def test_going_back_and_forth_ends_where_going_straight_does(positions: list[float]) -> None:
    wandering, straight = Timeline(won(), pace=3), Timeline(won(), pace=3)
    for position in positions:
        wandering.seek(position)
    wandering.seek(10.0)
    straight.seek(10.0)
    assert wandering.episode == straight.episode


@settings(deadline=None)
@given(st.floats(0, 21))
def test_a_position_in_steps_is_the_same_position_in_seconds(position: float) -> None:
    line = Timeline(won(), pace=3)
    assert line.position_of(line.share_at(position)) == pytest.approx(position, abs=1e-6)


def test_games_have_names_for_people() -> None:
    from tests.recorded import games

    names = [described(game) for game in games()]
    assert names[28].split() == ["clean", "and", "put", "SoapBar,", "CounterTop", "(room", "430)"]
