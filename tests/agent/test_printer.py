"""What people and programs get to see of an episode."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.agent.events import EpisodeFinished, Event, TextDecoded
from edge_router.agent.listeners.json_printer import JsonPrinter
from edge_router.agent.listeners.printer import IndentedStream, PlainPrinter, Screen
from tests.sample_episode import EPISODE, STARTED, TIERS, step_events, tell

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = """\
game    alfworld pick_and_place_simple-Pen-None-Desk-1/trial_1
goal    put some pen on desk.
tiers   q3_k_m (2.1 MB), q4_k_m (2.1 MB), q8_0 (2.1 MB)
run     router entropy:0.8, kv handoff, prompt household, seed 7, greedy, at most 50 steps

You are in the middle of a room. You see a desk 1, and a bed 1.

[1] q8_0  entropy 1.32 >= 0.8
    plan: desk 1 bed 1
    > go to desk 1
    < You arrive at desk 1. On the desk 1, you see a pen 2.
    prefill 85 tok 12.3 ms | route 0.10 ms | handoff 168 tok 3.0 ms | catch-up 2 tok 1.4 ms | \
decode 18 tok 45.1 ms, 399.1 tok/s

[2] q3_k_m  entropy 1.32 >= 0.8
    häh?
    < Nothing happens.
    prefill 85 tok 12.3 ms | route 0.10 ms | decode 18 tok 45.1 ms, 399.1 tok/s

(the context is full: 1 old turn left the prompt, 40 tokens)

[3] q3_k_m  entropy 1.32 >= 0.8
    see pen 2
    > take pen 2 from desk 1
    < You arrive at desk 1. On the desk 1, you see a pen 2.
    prefill 85 tok 12.3 ms | route 0.10 ms | decode 18 tok 45.1 ms, 399.1 tok/s

won in 3 steps, 1 refused
    q3_k_m    2 steps   67 %
    q4_k_m    0 steps    0 %
    q8_0      1 step    33 %
    prefill 255 tok 36.0 ms | route 0.30 ms | handoff 168 tok 3.0 ms | catch-up 2 tok 1.4 ms | \
decode 54 tok 135.3 ms, 399.1 tok/s
    model 0.18 s, game 0.16 s
"""


def printed(events: tuple[Event, ...] = EPISODE, *, colour: bool | None = None) -> str:
    file = io.StringIO()
    tell(PlainPrinter(file, colour=colour), events)
    return file.getvalue()


def test_a_file_gets_the_episode_as_plain_text() -> None:
    assert printed() == EXPECTED


def test_colour_adds_nothing_but_escape_codes() -> None:
    coloured = printed(colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == EXPECTED


def test_text_is_shown_while_it_is_decoded() -> None:
    file = io.StringIO()
    tell(PlainPrinter(file), [STARTED, *step_events(0, "", "")[:2], TextDecoded(0, " plan: de")])
    assert file.getvalue().endswith("    plan: de")


@pytest.mark.parametrize("kind", ["plain", "json"])
def test_a_pipe_gets_each_step_at_once(kind: str) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="utf-8")  # holds back 8 kB unless flushed
    tell(PlainPrinter(file) if kind == "plain" else JsonPrinter(file, io.StringIO()), EPISODE[:-1])
    assert raw.getvalue().endswith(b"\n")
    assert b"take pen 2 from desk 1" in raw.getvalue()


def test_an_action_that_the_text_does_not_end_with_is_reported() -> None:
    shown = printed((STARTED, *step_events(0, "> look\nand so on", "look")))
    assert "    and so on\n    (action: look)\n" in shown
    assert "(action: none)" in printed((STARTED, *step_events(0, "", "")))


@pytest.mark.parametrize(
    ("finished", "said"),
    [
        (EpisodeFinished(False, 50, "out of steps"), "not won in 50 steps"),
        (EpisodeFinished(False, 1, "interrupted"), "interrupted after 1 step"),
        (EpisodeFinished(False, 0, "lost"), "lost after 0 steps"),
    ],
)
def test_every_ending_is_reported(finished: EpisodeFinished, said: str) -> None:
    assert f"\n{said}\n" in printed((STARTED, finished))


def test_a_model_cannot_steer_the_terminal() -> None:
    shown = printed((STARTED, *step_events(0, "\x1b[2J\x07\r\x9b1m> look", "look")))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown)
    assert "[2J" in shown


def test_a_terminal_that_knows_no_umlauts_gets_question_marks() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    Screen(file).line("häh?")
    assert raw.getvalue() == b"h?h?\n"


@given(st.lists(st.text(alphabet="ab \n\t", max_size=4)))
def test_how_a_text_is_cut_into_pieces_does_not_show(pieces: list[str]) -> None:
    stream, whole = IndentedStream("  "), "".join(pieces)
    shown = "".join(map(stream.feed, pieces))
    assert shown == IndentedStream("  ").feed(whole)
    assert shown == ("  " + whole.strip().replace("\n", "\n  ") if whole.strip() else "")


def on_a_terminal(**environment: str) -> str:
    """What a printer writes in a process whose stdout is a terminal."""
    code = (
        "from edge_router.agent.listeners.printer import PlainPrinter\n"
        "from tests.sample_episode import EPISODE, tell\n"
        "tell(PlainPrinter(), EPISODE)"
    )
    leader, follower = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=follower,
        env=kept | {"TERM": "xterm-256color"} | environment,
    ):
        os.close(follower)
        shown = b""
        try:
            while piece := os.read(leader, 65536):
                shown += piece
        except OSError:  # Linux says EIO when the other end is closed
            pass
    os.close(leader)
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colour_and_whole_lines() -> None:
    shown = on_a_terminal()
    assert "\x1b[" in shown
    assert re.sub(r"\x1b\[[\d;]*m", "", shown) == EXPECTED


@pytest.mark.parametrize("wish", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_is_honoured_on_a_terminal(wish: dict[str, str]) -> None:
    assert on_a_terminal(**wish) == EXPECTED


def test_json_is_one_object_a_step_and_the_rest_goes_elsewhere() -> None:
    out, err = io.StringIO(), io.StringIO()
    tell(JsonPrinter(out, err), EPISODE)
    steps = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [s["step"] for s in steps] == [0, 1, 2]
    assert [s["tier"] for s in steps] == [TIERS[2], TIERS[0], TIERS[0]]
    assert [s["dropped_turns"] for s in steps] == [0, 0, 1]
    assert steps[0]["handoff_tokens"] == 168
    assert steps[0]["reason"] == "entropy 1.32 >= 0.8"
    assert steps[0]["features"] == {"entropy": 0.1 + 0.2}
    assert steps[1]["refused"] is True
    assert err.getvalue().splitlines()[-1] == "won in 3 steps, 1 refused"


def test_json_steps_come_as_they_end() -> None:
    out = io.StringIO()
    listener, events = JsonPrinter(out, io.StringIO()), [STARTED, *step_events(0, "x", "x")]
    tell(listener, events[:-1])
    assert out.getvalue() == ""
    tell(listener, events[-1:])
    assert out.getvalue().endswith("}\n")
