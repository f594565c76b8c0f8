"""The measurement of what the app costs runs from end to end, on tiny models."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_router.errors import UserError
from tests.engine_fixtures import tiny_paths
from tools import app_speed
from tools.app_clock import ORDERS, Held, Step

__all__ = ["tiny_paths"]


@pytest.mark.slow
def test_steps_are_measured_with_the_app_held_and_running(
    tiny_paths: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed.json"
    tier = f"--tier=q4_k_m={tiny_paths['q4_k_m']}"
    options = [tier, "--games=2", "--max-steps=12", "--threads=1", f"--json={file}"]
    assert app_speed.main(options) == 0
    figures = json.loads(file.read_text("utf-8"))
    assert [s["app_runs"] for s in figures["steps"]] == 2 * [on for four in ORDERS for on in four]
    assert all(step["tokens"] > 0 and step["seconds"] > 0 for step in figures["steps"])
    assert figures["on_by_off"]["low"] <= figures["on_by_off"]["value"]
    printed = capsys.readouterr()
    assert "app on / off" in printed.out
    assert "step 24 of 24" in printed.err


def test_a_model_that_is_not_there_is_reported_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app_speed.main([f"--tier=q4_k_m={tmp_path}/gone.gguf", "--games=1"]) == 2
    assert "gone.gguf" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--games=0", "--max-steps=0", "--max-steps=6"])
def test_numbers_that_make_no_fours_are_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app_speed.main([option]) == 2
    assert option.partition("=")[0] in capsys.readouterr().err


def four(order: tuple[bool, ...], slowed: float) -> list[Step]:
    """Steps of ten tokens, each slower than the one before, and more so while the app runs."""
    return [
        Step(runs, 10, (1 + 0.01 * n) / (slowed if runs else 1.0), 0.02 if runs else 0.0)
        for n, runs in enumerate(order)
    ]


@pytest.mark.parametrize("order", ORDERS)
def test_the_ratio_is_the_apps_share_whatever_the_order(order: tuple[bool, ...]) -> None:
    assert app_speed.ratio(four(order, 0.9)) == pytest.approx(0.9 if any(order) else 1.0)


def test_figures_tell_the_app_from_the_steps_that_are_held() -> None:
    figures = app_speed.figures_of([step for order in ORDERS * 5 for step in four(order, 0.95)])
    assert figures["on_by_off"]["value"] == pytest.approx(0.95)
    assert figures["off_by_off"]["value"] == pytest.approx(1.0)
    assert figures["app_share_of_a_core"] == pytest.approx(0.02 * 0.95, rel=0.05)
    with pytest.raises(UserError, match="too few"):
        app_speed.figures_of(four(ORDERS[0], 0.95))


@pytest.fixture
def held() -> Iterator[Held]:
    before = signal.getsignal(signal.SIGUSR1)
    yield Held()
    signal.signal(signal.SIGUSR1, before)


def test_a_thread_that_is_held_does_nothing_until_it_may(held: Held) -> None:
    counted = 0
    seen: list[int] = []
    is_over = threading.Event()

    def hold() -> None:
        held.set(True)
        held.set(True)  # twice is as good as once
        time.sleep(0.1)  # the signal arrives
        seen.append(counted)
        time.sleep(0.2)
        seen.append(counted)
        held.set(False)
        while counted == seen[-1]:
            time.sleep(0.01)
        is_over.set()

    threading.Thread(target=hold).start()
    while not is_over.is_set():
        counted += 1
        time.sleep(0.001)
    assert seen[0] == seen[1] < counted
