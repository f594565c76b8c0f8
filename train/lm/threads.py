"""PyTorch's threads, which follow the machine between optimisation steps.

Like llama.cpp's, PyTorch's OpenMP threads wait for each other after every operation, and a
program that takes one core makes all of them wait. So before each step the number is chosen
anew, by the same `ThreadControl` that chooses llama.cpp's. A step that takes longer than a
quarter of a second is never tried on other numbers: then it is the number of cores that other
programs leave. The process that draws the batches counts as one of them while it works.

Weights are the same bits on one and two threads as long as nothing is compiled (a test trains
on both). Compiled layers may sum in another order on another number of threads: where two runs
have to agree to the last bit, give both the same `--threads`.

PyTorch compiles the layers anew for each number of threads and each length of batch. The first
step of each pair is compilation mostly, and is not counted as that number's time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from edge_router.engine.threads import Machine, ThreadControl, this_machine
from train.lm.batches import BUCKETS

PASSES = 3  # multiplications a parameter and token: forward, and twice that to go back


class StepThreads:
    """Chooses PyTorch's threads for each optimisation step of a model.

    `parameters` is the model's size. `fixed` is the user's number, which is kept to; None lets
    the number follow `machine`, by default this one.
    """

    def __init__(self, parameters: int, fixed: int | None, machine: Machine | None = None) -> None:
        self._control: ThreadControl | None = None
        if fixed is not None:
            torch.set_num_threads(fixed)
            return
        machine = machine or this_machine()
        self._control = ThreadControl(float(PASSES * parameters), machine=machine)
        self._compiled: set[tuple[int, int]] = set()
        # Beyond this many compilations of a layer PyTorch would go on without compiling. The
        # numbers in use are 1, the cores that are left and half of them: all, at the worst.
        torch._dynamo.config.recompile_limit = len(BUCKETS) * (machine.cores + 1)

    @contextmanager
    def step(self, tokens: int, length: int) -> Iterator[None]:
        """Around one step on a batch of so many tokens, in rows of `length`."""
        if self._control is None:
            yield
            return
        number = self._control.choose(tokens)
        if number != torch.get_num_threads():
            torch.set_num_threads(number)
        started, own = time.monotonic(), time.thread_time()
        yield
        if (number, length) in self._compiled:
            seconds, own = time.monotonic() - started, time.thread_time() - own
            self._control.took(number, tokens, seconds, own)
        self._compiled.add((number, length))
