"""Ctrl-C ends a decode while llama.cpp computes, and nothing is lost by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_router.engine import stop_flag
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from tests.engine_fixtures import tiny_paths

__all__ = ["tiny_paths"]  # a fixture

LONG = """
import os, signal, sys, threading
from pathlib import Path
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.work.processes import sigterm_as_ctrl_c
number = signal.Signals[sys.argv[2]]
if number == signal.SIGTERM:  # as in the background of a script
    signal.signal(signal.SIGINT, signal.SIG_IGN)
context = LlamaContext(LlamaModel.load(Path(sys.argv[1])), n_ctx=1024, n_batch=1024, n_threads=1)
text = [1] * 1000
for _ in range(200):  # the signal comes at some moment of this
    timer = threading.Timer(0.02, lambda: os.kill(os.getpid(), number))
    try:
        with sigterm_as_ctrl_c():
            timer.start()
            while True:
                context.decode(text, 0)
    except KeyboardInterrupt:
        timer.join()
        if context._api.llama_memory_seq_pos_max(context._memory, 0) < len(text) - 1:
            print("in the middle")
            break
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_decode_in_the_middle(
    number: signal.Signals, tiny_paths: dict[str, Path]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LONG, str(tiny_paths["q8_0"]), number.name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("in the middle\n", "")


def test_a_decode_that_was_stopped_can_be_done_again(tiny_paths: dict[str, Path]) -> None:
    model = LlamaModel.load(tiny_paths["q8_0"])
    text = list(range(1, 90))
    stopped, whole = (LlamaContext(model, n_ctx=256, n_threads=1) for _ in range(2))
    whole.decode(text, 0)
    stopped.decode(text[:50], 0)
    stopped._batch.fill(text[50:], 50, True)
    stop_flag.set_stop(True)
    assert stopped._api.llama_decode(stopped.handle, stopped._batch.struct) == stop_flag.ABORTED
    stopped.decode(text[50:], 50)
    np.testing.assert_allclose(stopped.logits(), whole.logits(), atol=1e-3)


def test_a_handler_that_lets_the_run_go_on_gets_its_result(tiny_paths: dict[str, Path]) -> None:
    context = LlamaContext(LlamaModel.load(tiny_paths["q8_0"]), n_ctx=256, n_threads=1)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        for position in range(20):
            os.kill(os.getpid(), signal.SIGINT)
            context.decode([1], position)
    finally:
        signal.signal(signal.SIGINT, before)
    assert context.n_past == 20


def test_a_stop_is_an_interrupt_where_nobody_takes_care_of_it() -> None:
    with pytest.raises(KeyboardInterrupt):
        stop_flag.end_or_go_on()
