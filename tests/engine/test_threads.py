"""The number of threads follows what decodes take and what other programs leave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.machine import physical_cores
from edge_router.engine.threads import Machine, ThreadControl
from tests.engine_fixtures import tiny_paths

__all__ = ["tiny_paths"]  # a fixture

LARGE = 135e6  # parameters of a model that two threads are worth it for
SMALL = 3e6


class Crowd(Machine):
    """A machine whose other programs take what the test says."""

    def __init__(self, cores: int, taken: float = 0.0) -> None:
        super().__init__(cores)
        self.taken = taken

    def others(self) -> float:
        return self.taken


@dataclass
class ThreadsRun:
    """Plays decodes whose duration is a function of the number of threads; the clock is theirs."""

    control: ThreadControl
    token: Callable[[int], float]  # seconds a token on n threads
    now: float = 0.0
    running: float = 1.0  # share of the time that a thread is let run

    def seconds(self, duration: float, tokens: int = 1) -> float:
        """Decode that long; how many tokens a second came out."""
        end, done, started = self.now + duration, 0, self.now
        while self.now < end:
            n = self.control.choose(tokens)
            took = self.token(n) * tokens
            self.now += took
            self.control.took(n, tokens, took, self.running * took)
            done += tokens
        return done / (self.now - started)


def run(
    cores: int, token: Callable[[int], float], *, work: float = LARGE
) -> tuple[ThreadsRun, Crowd]:
    machine = Crowd(cores)
    game = ThreadsRun(ThreadControl(work, None, machine, lambda: game.now), token)
    return game, machine


def test_an_idle_machine_loses_at_most_three_percent_to_trials() -> None:
    game, _ = run(2, lambda n: {1: 0.020, 2: 0.0125}[n])
    assert game.seconds(60) >= 0.97 * 80


def test_a_small_model_stays_on_one_thread_and_tries_two_seldom() -> None:
    game, _ = run(2, lambda n: {1: 0.0004, 2: 0.004}[n], work=SMALL)
    assert game.seconds(0.4) == pytest.approx(2500, rel=0.01)  # a game's worth: nothing tried
    assert game.seconds(60) >= 0.97 * 2500


def test_a_wrong_first_guess_is_found_out() -> None:
    game, _ = run(4, lambda n: {1: 0.010, 2: 0.020, 4: 0.040}[n])
    game.seconds(10)
    assert game.seconds(30) >= 0.95 * 100


def test_when_another_program_takes_a_core_the_rest_is_used() -> None:
    game, machine = run(2, lambda n: {1: 0.018, 2: 0.5 if machine.taken else 0.0125}[n])
    game.seconds(5)
    machine.taken = 0.67
    assert game.seconds(20) >= 0.85 / 0.018
    machine.taken = 0.0
    assert game.seconds(2) >= 0.9 * 80


def test_a_busy_machine_is_not_tried_at_once_on_more_threads() -> None:
    game, machine = run(2, lambda n: {1: 0.018, 2: 0.9}[n])
    machine.taken = 1.3
    assert game.seconds(3.5) == pytest.approx(1 / 0.018, rel=0.01)
    assert game.seconds(60) >= 0.95 / 0.018


def test_a_crowded_machine_is_never_tried_on_more_threads_than_it_has_room_for() -> None:
    tried = set[int]()

    def token(n: int) -> float:
        tried.add(n)
        return 0.05 if n == 1 else 1.6

    game, machine = run(2, token)
    machine.taken, game.running = 1.6, 0.5
    game.seconds(120)
    assert tried == {1}


def test_a_second_thread_that_brings_little_is_taken_when_its_core_is_idle() -> None:
    game, _ = run(2, lambda n: {1: 0.00054, 2: 0.00050}[n], work=SMALL)
    game.seconds(2)
    assert game.seconds(60) >= 0.97 * 2000


def test_counters_that_show_another_machines_load_are_found_out() -> None:
    game, machine = run(2, lambda n: {1: 0.018, 2: 0.010}[n])
    machine.taken = 30.0  # a container may see its host's
    game.seconds(6)
    assert game.seconds(10) >= 0.97 * 100


def test_load_that_no_counter_shows_is_found_out_by_a_trial() -> None:
    busy = False
    game, _ = run(2, lambda n: {1: 0.020, 2: 0.080 if busy else 0.0125}[n])
    game.seconds(5)
    busy = True
    game.seconds(2)
    assert game.seconds(10) >= 0.9 * 50


def test_a_long_call_is_never_tried_on_other_threads() -> None:
    tried = set[int]()

    def prefill(n: int) -> float:
        tried.add(n)
        return 0.002 * 4 / n

    game, _ = run(4, prefill)
    game.seconds(60, tokens=512)
    assert tried == {4}


def test_batches_of_other_sizes_have_a_choice_of_their_own() -> None:
    game, _ = run(2, lambda n: {1: 0.010, 2: 0.030}[n])
    game.seconds(5)
    assert game.control.choose(1) == 1
    assert game.control.choose(64) == 2


@pytest.mark.parametrize(
    ("cores", "taken", "left"),
    [(2, 0.0, 2), (2, 0.2, 2), (2, 0.67, 1), (2, 1.9, 1), (8, 1.0, 7), (8, 2.5, 5), (8, 20.0, 1)],
)
def test_what_others_take_is_not_counted_on(cores: int, taken: float, left: int) -> None:
    assert Crowd(cores, taken).left() == left


def test_a_limit_holds() -> None:
    control = ThreadControl(LARGE, 3, Crowd(16))
    assert control.choose(1) == 3


def test_a_program_beside_ours_is_seen() -> None:
    machine = Machine(physical_cores())
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            time.sleep(1.0)
            assert machine.others() > 0.3
        finally:
            busy.kill()


def test_own_work_is_not_taken_for_other_programs() -> None:
    machine = Machine(physical_cores())
    own, started = time.process_time(), time.monotonic()
    while time.monotonic() < started + 0.6:
        pass
    others = machine.others()
    own = (time.process_time() - own) / (time.monotonic() - started)
    # What is ours and what is theirs is no more than there is; counters move in 0.01 s a processor.
    assert others + own <= (os.cpu_count() or 1) + 0.1


@pytest.mark.parametrize("tier", ["q8_0", "q3_k_m"])
def test_the_number_of_threads_changes_no_result(tiny_paths: dict[str, Path], tier: str) -> None:
    model = LlamaModel.load(tiny_paths[tier])
    text = [(7 * i) % model.n_vocab for i in range(1, 90)]

    def logits(n: int) -> np.ndarray:
        context = LlamaContext(model, n_ctx=256, n_threads=n)
        context.decode(text, 0)
        context.decode([5], len(text))
        return context.logits().copy()

    for n in range(2, 5):
        np.testing.assert_array_equal(logits(n), logits(1))


def test_threads_that_are_asked_for_stay(tiny_paths: dict[str, Path]) -> None:
    context = LlamaContext(LlamaModel.load(tiny_paths["q8_0"]), n_ctx=64, n_threads=2)
    for position in range(20):
        context.decode([1], position)
    assert context.n_threads == 2


def test_threads_that_nobody_asked_for_follow_the_machine(tiny_paths: dict[str, Path]) -> None:
    context = LlamaContext(LlamaModel.load(tiny_paths["q8_0"]), n_ctx=64)
    context.decode([1], 0)
    assert context.n_threads == 1  # a model as small as this one is fastest on one
