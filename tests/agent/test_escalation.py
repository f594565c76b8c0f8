"""Every escalated step says whether the higher tier changed the command of the draft."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge_router.agent.escalation import count, step_sentence, summary, tokens_summary
from edge_router.agent.events import Escalations, Event, Latency, StepFinished
from edge_router.agent.listeners.json_printer import JsonPrinter
from edge_router.agent.listeners.printer import PlainPrinter
from edge_router.agent.trace import FORMAT, TraceWriter, read_trace
from tests.sample_episode import FINISHED, STARTED, step_events, tell
from tui.draw.head import headline
from tui.draw.sofar import draw_sofar
from tui.draw.time import draw_time, legend
from tui.draw.transcript import blocks
from tui.draw.words import outcome
from tui.state.episode import Episode
from tui.state.screenful import Screenful

CHANGED = step_events(
    0, "see drawer 2\n> open drawer 2", "open drawer 2", tier=2, draft="see\n> go to desk 1"
)
SAME = step_events(1, "look\n> look", "look", tier=2, draft="hm\n> look")
KEPT = step_events(2, "> look", "look", draft="> look")
NO_DRAFT = step_events(3, "> look", "look", tier=1)
STEPS = [e for e in (*CHANGED, *SAME, *KEPT, *NO_DRAFT) if isinstance(e, StepFinished)]
ENDED = replace(FINISHED, steps=4, escalations=count(STEPS))
EPISODE: list[Event] = [STARTED, *CHANGED, *SAME, *KEPT, *NO_DRAFT, ENDED]
TOLD = "q8_0 changed `go to desk 1` to `open drawer 2`"
SUMMARY = "3 steps escalated, 1 changed the command of the 2 whose draft is known"


def test_a_step_says_what_escalating_came_to() -> None:
    assert [step_sentence(step) for step in STEPS] == [TOLD, "q8_0 wrote the same command", "", ""]
    mute = replace(STEPS[0], draft_action="")
    assert step_sentence(mute) == "q8_0 changed no command to `open drawer 2`"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Escalations(2, 2, 1), "2 steps escalated, 1 changed the command"),
        (Escalations(1, 1, 0), "1 step escalated, none changed the command"),
        (Escalations(3, 2, 1), SUMMARY),
        (Escalations(3, 0, 0), ""),
        (Escalations(), ""),
    ],
)
def test_the_summary_counts_them(found: Escalations, said: str) -> None:
    assert summary(found) == said


def test_it_says_how_much_of_a_verified_draft_stayed() -> None:
    verified = Latency(verify_ms=9.0, verify_batches=1, drafted=13, accepted=12, rewritten=4)
    told = "12 of 13 drafted tokens accepted, 4 rewritten"
    assert step_sentence(replace(STEPS[0], latency=verified)) == f"{TOLD}; {told}"
    assert step_sentence(replace(STEPS[3], latency=verified)) == f"q4_k_m: {told}"
    assert tokens_summary(verified) == "12 of 13 drafted tokens accepted (92 %), 4 rewritten"
    assert tokens_summary(Latency()) == ""
    file, errors = io.StringIO(), io.StringIO()
    ended = replace(ENDED, latency=verified)
    tell(PlainPrinter(file), [*EPISODE[:-1], ended])
    tell(JsonPrinter(io.StringIO(), errors), [*EPISODE[:-1], ended])
    assert tokens_summary(verified) in file.getvalue()
    assert tokens_summary(verified) in errors.getvalue()


def test_the_printed_run_tells_it_under_the_command() -> None:
    file = io.StringIO()
    tell(PlainPrinter(file), EPISODE)
    assert f"    > open drawer 2\n    ({TOLD})\n    < " in file.getvalue()
    assert f"    {SUMMARY}\n" in file.getvalue()
    assert file.getvalue().count("same command") == 1


def test_json_tells_the_drafts_command_and_whether_it_was_changed() -> None:
    out, err = io.StringIO(), io.StringIO()
    tell(JsonPrinter(out, err), EPISODE)
    steps = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [step["draft_action"] for step in steps] == ["go to desk 1", "look", "look", None]
    assert [step["changed"] for step in steps] == [True, False, None, None]
    assert SUMMARY in err.getvalue()


def written(path: Path) -> list[dict[str, object]]:
    with TraceWriter(path) as writer:
        tell(writer, EPISODE)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_trace_keeps_it(tmp_path: Path) -> None:
    lines = written(tmp_path / "t.jsonl")
    assert lines[0]["format"] == FORMAT == "edge-router/trace/4"
    trace = read_trace(tmp_path / "t.jsonl")
    assert [step.finished for step in trace.steps] == STEPS
    assert trace.finished == ENDED


def test_a_trace_of_the_first_format_tells_the_same(tmp_path: Path) -> None:
    """It kept the draft's text and neither its command nor the counts."""
    path = tmp_path / "t.jsonl"
    lines = written(path)
    lines[0]["format"] = "edge-router/trace/1"
    for line in lines[1:-1]:
        step = line["finished"]
        assert isinstance(step, dict)
        del step["draft_action"]
    footer = lines[-1]["episode"]
    assert isinstance(footer, dict)
    del footer["escalations"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    trace = read_trace(path)
    assert [step.finished for step in trace.steps] == STEPS
    assert trace.finished == ENDED


def test_the_app_tells_it_in_headline_transcript_and_outcome() -> None:
    episode, heads = Episode(), []
    for event in EPISODE[:-1]:
        episode.apply(event)
        if isinstance(event, StepFinished):
            heads.append(headline(Screenful(episode=episode)).plain.partition(":")[0])
    assert heads[0] == "● q8_0 changed the command of step 1"
    assert heads[1] == "● q8_0 wrote the same command in step 2"
    assert heads[2:] == ["○ q3_k_m wrote step 3", "◑ q4_k_m wrote step 4"]
    shown = [line.plain for b in blocks(Screenful(episode=episode)) for line in b.draw(80)]
    assert sum(TOLD in line for line in shown) == 1
    assert sum("wrote the same command" in line for line in shown) == 1
    assert outcome(ENDED, episode).endswith(f". {SUMMARY}.")


def test_the_app_tells_how_much_of_the_drafts_stayed() -> None:
    episode = Episode()
    verified = Latency(draft_ms=5.0, verify_ms=9.0, verify_batches=1, drafted=13, accepted=12)
    for event in EPISODE:
        if isinstance(event, StepFinished) and event.tier_index == 2:
            event = replace(event, latency=replace(verified, rewritten=4))
        episode.apply(event)
    seen = Screenful(episode=episode)
    assert "drafts    24 of 26 tokens accepted (92 %), 8 rewritten" in draw_sofar(seen, 70, 9).plain
    assert "▞ verify" in legend(seen, 80).plain
    assert "▞" in draw_time(seen, 70, 9).plain
    shown = " ".join(line.plain for block in blocks(seen) for line in block.draw(200))
    assert "12 of 13 drafted tokens accepted, 4 rewritten" in shown


def test_what_was_looked_up_is_told_at_the_end_and_in_the_app() -> None:
    out, episode = io.StringIO(), Episode()
    looked_up = Latency(decode_ms=9.0, decode_tokens=20, lookup_tokens=12, lookup_accepted=9)
    printer = PlainPrinter(out)
    for event in EPISODE:
        if isinstance(event, StepFinished):
            event = replace(event, latency=looked_up)
        elif event is ENDED:
            event = replace(ENDED, latency=looked_up)
        printer(event)
        episode.apply(event)
    assert "9 of 12 looked-up tokens accepted" in out.getvalue()
    shown = draw_sofar(Screenful(episode=episode), 70, 9).plain
    assert "lookup    36 of 48 guesses accepted (75 %)" in shown
