"""PyTorch's threads follow the machine between optimisation steps, and change no result."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.engine.test_threads import Crowd
from train.lm.batches import Batch, pad
from train.lm.episodes import draw_transcript
from train.lm.model import LmConfig, LmShape
from train.lm.threads import StepThreads
from train.lm.train import LmTrainer

# Wide and long enough that PyTorch splits its work: below 32,768 numbers it uses one thread.
SHAPE = LmShape(width=64, layers=1, feedforward=64)


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before, limit = torch.get_num_threads(), torch._dynamo.config.recompile_limit
    yield
    torch.set_num_threads(before)
    torch._dynamo.config.recompile_limit = limit


def steps(threads: StepThreads, lengths: list[int], tokens: int = 8192) -> list[int]:
    """The number of threads of each step."""
    numbers = []
    for length in lengths:
        with threads.step(tokens, length):
            numbers.append(torch.get_num_threads())
    return numbers


def test_the_number_follows_what_other_programs_leave() -> None:
    machine = Crowd(4)
    threads = StepThreads(3_000_000, None, machine)
    assert steps(threads, [129]) == [4]
    machine.taken = 2.0
    assert steps(threads, [129]) == [2]
    machine.taken = 9.0
    assert steps(threads, [129]) == [1]


def test_a_number_that_the_user_gives_is_kept_to() -> None:
    machine = Crowd(4, taken=9.0)
    assert steps(StepThreads(3_000_000, 2, machine), [129, 193, 129]) == [2, 2, 2]


def test_a_step_that_compiles_is_not_taken_for_a_slow_one() -> None:
    threads = StepThreads(3_000_000, None, Crowd(2))
    control = threads._control
    assert control is not None
    with threads.step(8192, 129):
        time.sleep(0.2)
    (choice,) = control._choices.values()
    assert choice.cost == {}
    with threads.step(8192, 129):
        time.sleep(0.01)
    assert set(choice.cost) == {2}


def batch() -> Batch:
    rng = random.Random(0)
    return pad([draw_transcript(rng).arrays() for _ in range(6)], 129)


def trained(folder: Path, numbers: list[int]) -> dict[str, Tensor]:
    """Weights after a step on each number of threads."""
    trainer = LmTrainer(folder, LmConfig(shape=SHAPE, steps=10))
    for number in numbers:
        torch.set_num_threads(number)
        trainer.learn(batch())
    return trainer.model.state_dict()


@pytest.mark.slow
def test_one_and_two_threads_train_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch._dynamo.config, "disable", True)  # compiling takes half a minute
    alone = trained(tmp_path, [1, 1])
    together = trained(tmp_path, [2, 2])
    assert [name for name in alone if not torch.equal(alone[name], together[name])] == []
