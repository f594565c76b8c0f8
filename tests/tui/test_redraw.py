"""What the app writes to a terminal: nothing that flickers, and no more than has changed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.recorded import TRACES
from tests.terminal import Terminal, terminal

BEGIN, END = b"\x1b[?2026h", b"\x1b[?2026l"  # of a synchronised update (DEC mode 2026)
SWITCHES = re.compile(rb"\x1b\[\?(?:47|1047|1049)[hl]")  # of the alternate screen
FLICKERS = re.compile(rb"\x1b\[[0-3]?[JK]|\x1bc|\x1b\[!p|" + SWITCHES.pattern)  # erases, resets
STEP = re.compile(rb"step ([1-9]\d*) of \d+")  # at the top of the screen
PACE = "--pace=0.5"
REPLAY = ("replay", str(TRACES / "won.jsonl"), PACE)
PLAY = ("play", "--split=generated", "--game=28", "--threads=1", PACE)
RUNS = pytest.mark.parametrize(
    "run", [pytest.param(REPLAY, marks=pytest.mark.slow), PLAY], ids=["replay", "live"]
)


def drawn_in_a_game(used: Terminal) -> bytes:
    """All that the app draws up to the end of the game, from when it has the screen."""
    used.read_until(lambda: b"Won in 7 steps" in used.output)
    end = len(used.output)
    used.press("q")
    assert used.wait() == 0
    assert len(SWITCHES.findall(used.output)) == 2  # there and back
    return used.output[:end].partition(b"\x1b[?1049h")[2]


@pytest.mark.slow
@RUNS
def test_nothing_is_erased_or_reset_while_a_game_is_shown(
    run: tuple[str, ...], tmp_path: Path
) -> None:
    with terminal(*run, cwd=tmp_path) as used:
        drawn = drawn_in_a_game(used)
    assert b"What the agent thinks" in drawn
    assert not FLICKERS.search(drawn)


@RUNS
def test_every_redraw_is_one_synchronised_update(run: tuple[str, ...], tmp_path: Path) -> None:
    """Every one from when the terminal's answer is heard.

    Textual asks and goes on, so the opening may be drawn before; no step may be.
    """
    with terminal(*run, cwd=tmp_path) as used:
        used.synchronises = True
        drawn = drawn_in_a_game(used)
    before, *frames = drawn.split(BEGIN)
    assert not STEP.search(before)
    redraws = [frame.partition(END)[0] for frame in frames]
    outside = b"".join(frame.partition(END)[2] for frame in frames)
    assert outside == b""
    assert b"7" in STEP.findall(b"".join(redraws))
    assert not FLICKERS.search(b"".join(redraws))
    sizes = sorted(map(len, redraws))
    print(f"{len(sizes)} redraws: median {sizes[len(sizes) // 2]}, largest {sizes[-1]} bytes")
    assert len(sizes) > 7


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_under_tmux_the_screen_is_never_blank_between_two_steps(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("edge-router"))
    socket = str(tmp_path / "tmux")

    def tmux(*arguments: str) -> str:
        command = ["tmux", "-S", socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    tmux("new-session", "-d", "-x", "80", "-y", "24", program, *REPLAY)
    try:
        give_up = time.monotonic() + 120
        begun, screens = False, list[str]()
        while "Won in 7 steps" not in (screen := tmux("capture-pane", "-p")):
            assert time.monotonic() < give_up, screen
            begun = begun or "smallest" in screen
            if begun:
                screens.append(screen)
        assert len(screens) > 10
        for screen in screens:  # the frame, the keys and the strip are there all the time
            assert "What the agent thinks" in screen
            assert "smallest" in screen
            assert "quit" in screen
        tmux("send-keys", "?")
        while "Esc closes" not in tmux("capture-pane", "-p"):
            assert time.monotonic() < give_up
        tmux("send-keys", "Escape")
        while "Esc closes" in tmux("capture-pane", "-p"):
            assert time.monotonic() < give_up
        tmux("resize-window", "-x", "120", "-y", "40")
        while "Where the time goes" not in tmux("capture-pane", "-p"):
            assert time.monotonic() < give_up
        tmux("send-keys", "q")
        while subprocess.run(["tmux", "-S", socket, "ls"], capture_output=True).returncode == 0:
            assert time.monotonic() < give_up  # the app was the only thing that ran there
    finally:
        subprocess.run(["tmux", "-S", socket, "kill-server"], capture_output=True, check=False)
