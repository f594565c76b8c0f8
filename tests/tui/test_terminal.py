"""The commands in a real terminal: when the app opens, and what is left when it is gone."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from edge_router.agent.trace import Trace, read_trace
from tests.recorded import TRACES
from tests.terminal import Terminal, program, terminal

ENTERS, LEAVES = b"\x1b[?1049h", b"\x1b[?1049l"  # the alternate screen
PLAY = ("play", "--split=generated", "--game=28", "--threads=1", "--pace=1000", "--trace=t.jsonl")


def steps_recorded(folder: Path) -> int:
    path = folder / "t.jsonl"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def take_steps(used: Terminal, folder: Path, count: int) -> None:
    """Wait for the game to begin, then take `count` steps with the key for one."""
    used.read_until((folder / "t.jsonl").exists)
    before = steps_recorded(folder)
    for number in range(before + 1, before + count + 1):
        used.press("n")
        used.read_until(lambda: steps_recorded(folder) >= number)  # noqa: B023


def whole_trace(folder: Path) -> Trace:
    trace = read_trace(folder / "t.jsonl")
    assert trace.note == ""
    assert trace.finished is not None
    return trace


def assert_sane(used: Terminal) -> None:
    assert used.attributes() == used.before
    assert used.output.count(ENTERS) == used.output.count(LEAVES) == 1
    assert b"\x1b[?25h" in used.output[used.output.rindex(LEAVES) - 200 :]  # the cursor is back
    assert b"Traceback" not in used.output


def test_quitting_in_mid_game_after_a_resize(tmp_path: Path) -> None:
    with terminal(*PLAY, cwd=tmp_path) as used:
        take_steps(used, tmp_path, 2)
        used.resize(80, 24)
        used.process.send_signal(signal.SIGWINCH)
        take_steps(used, tmp_path, 1)
        used.press("q")
        assert used.wait() == 0
        assert_sane(used)
    trace = whole_trace(tmp_path)
    assert trace.finished is not None
    assert trace.finished.reason == "interrupted"
    assert trace.finished.steps == len(trace.steps) == 3


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT]
)
def test_a_signal_ends_it_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    with terminal(*PLAY, cwd=tmp_path) as used:
        take_steps(used, tmp_path, 2)
        used.process.send_signal(number)
        assert used.wait() == 128 + number
        assert_sane(used)
    whole_trace(tmp_path)


@pytest.mark.parametrize(
    "signalled",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["with SIGHUP", "without"],
)
def test_a_terminal_that_is_closed_ends_it_with_a_whole_trace(
    signalled: bool, tmp_path: Path
) -> None:
    with terminal(*PLAY, cwd=tmp_path) as used:
        take_steps(used, tmp_path, 2)
        if signalled:
            used.process.send_signal(signal.SIGHUP)
        used.hang_up()
        assert used.process.wait(300) == 128 + signal.SIGHUP
    whole_trace(tmp_path)


CRASH = """
import sys
from edge_router.cli.main import main
from tui.apps.live import LiveApp
whole = LiveApp.{method}
def breaks(self, *args, **kwargs):
    if len(self.episode.done_steps) >= 2:
        raise RuntimeError("a bug of ours")
    return whole(self, *args, **kwargs)
LiveApp.{method} = breaks
main(sys.argv[1:])
"""


def test_a_crash_of_the_screen_leaves_terminal_and_trace_whole(tmp_path: Path) -> None:
    code = CRASH.format(method="screenful")
    with program(sys.executable, "-c", code, *PLAY, cwd=tmp_path) as used:
        take_steps(used, tmp_path, 2)
        assert used.wait() == 1
        assert used.attributes() == used.before
        assert LEAVES in used.output
        assert b"a bug of ours" in used.output[used.output.rindex(LEAVES) :]
    trace = whole_trace(tmp_path)
    assert len(trace.steps) >= 2


def test_a_mistake_is_reported_before_the_app_opens(tmp_path: Path) -> None:
    with terminal("play", "--split=generated", "--game=9999", cwd=tmp_path) as used:
        assert used.wait() == 2
        assert ENTERS not in used.output
        assert b"There is no game 9999" in used.output


def test_plain_prints_on_a_terminal_too(tmp_path: Path) -> None:
    with terminal(*PLAY, "--plain", "--max-steps=2", cwd=tmp_path) as used:
        assert used.wait() == 0
        assert ENTERS not in used.output
        assert b"not won in 2 steps" in used.output


def test_a_trace_is_replayed_in_the_app(tmp_path: Path) -> None:
    with terminal("replay", str(TRACES / "won.jsonl"), "--pace=0", cwd=tmp_path) as used:
        used.read_until(lambda: b"Won in 7 steps" in used.output)
        used.press("q")
        assert used.wait() == 0
        assert_sane(used)


def test_two_traces_need_a_terminal_and_three_are_too_many(tmp_path: Path) -> None:
    trace = str(TRACES / "won.jsonl")
    with terminal("replay", trace, trace, cwd=tmp_path) as used:
        used.read_until(lambda: b"Both runs give the same commands" in used.output)
        used.press("q")
        assert used.wait() == 0
    with terminal("replay", trace, trace, "--plain", cwd=tmp_path) as used:
        assert used.wait() == 2
        assert b"need a terminal" in used.output
    with terminal("replay", trace, trace, trace, cwd=tmp_path) as used:
        assert used.wait() == 2
        assert b"not 3" in used.output


def test_a_server_is_watched_until_q_and_leaves_its_result_on_the_terminal(tmp_path: Path) -> None:
    with terminal("serve", "--watch", "--port=0", "--threads=1", cwd=tmp_path) as used:
        used.read_until(lambda: b"No request yet" in used.output)
        found = re.search(rb"http://127\.0\.0\.1:\d+/v1", used.output)
        assert found is not None
        body = {"model": "household", "prompt": "task: put", "max_tokens": 3}
        with ThreadPoolExecutor(1) as thread:
            asked = thread.submit(
                httpx.post, f"{found[0].decode()}/completions", json=body, timeout=60
            )
            used.read_until(asked.done)
        assert asked.result().status_code == 200
        used.read_until(lambda: b"1 answered" in used.output)
        used.press("q")
        assert used.wait() == 0
        assert_sane(used)
        assert b"household: 1 request answered" in used.output[used.output.rindex(LEAVES) :]


def test_watching_a_server_needs_a_terminal(tmp_path: Path) -> None:
    with terminal("serve", "--watch", "--port=0", cwd=tmp_path, stderr=subprocess.PIPE) as used:
        assert used.wait() == 2
        assert used.process.stderr is not None
        said = used.process.stderr.read()
        assert b"--watch opens the app, which needs a terminal" in said
        assert said.count(b"\n") == 1


def test_where_any_stream_goes_elsewhere_the_run_is_printed(tmp_path: Path) -> None:
    with terminal(
        "replay", str(TRACES / "won.jsonl"), cwd=tmp_path, stderr=subprocess.DEVNULL
    ) as used:
        assert used.wait() == 0
        assert ENTERS not in used.output
        assert b"won in 7 steps" in used.output
