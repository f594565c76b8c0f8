"""`edge-router serve` as a process: where it listens, and how it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from edge_router.errors import UserError
from edge_router.server.run import Listening
from edge_router.work.processes import python_module
from tests.serving import OPENING, user


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command on a free port, and its address."""
    command = python_module("edge_router.cli", "serve", "--port", "0", "--threads", "1", *arguments)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"http://\S+", line)
            assert found, line
            yield process, found[0]
        finally:
            process.kill()


def test_sigterm_lets_the_request_in_hand_finish_and_the_log_tells_no_text() -> None:
    with serving("--router", "low") as (process, url):
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        pieces: list[Any] = []
        begun = threading.Event()

        def read() -> None:
            asked: Any = {"model": "household", "prompt": "task: put", "max_tokens": 900}
            # A schema that a text of this length does not fulfil: it is not over soon.
            for chunk in client.completions.create(stream=True, **asked):
                pieces.append(chunk)
                begun.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert begun.wait(30)
        process.send_signal(signal.SIGTERM)
        thread.join(60)
        assert pieces[-1].choices[0].finish_reason in ("length", "stop"), "it was written whole"
        assert process.wait(30) == 0
        assert process.stderr is not None
        log = process.stderr.read()
        assert "household  iq1_s  always the low tier" in log
        assert "task: put" not in log


def test_texts_are_logged_where_that_was_asked_for() -> None:
    with serving("--router", "high", "--log-texts") as (process, url):
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        client.chat.completions.create(model="household", messages=[user(OPENING)], max_tokens=4)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "< task: put a clean mug in cabinet." in process.stderr.read()


@pytest.mark.parametrize(
    ("listening", "said"),
    [
        (Listening("0.0.0.0"), "give it a key with --api-key"),
        (Listening("192.168.1.5"), "give it a key"),
        (Listening("::"), "give it a key"),
        (Listening(key="short"), "too short"),
    ],
)
def test_what_would_be_unsafe_is_refused(listening: Listening, said: str) -> None:
    with pytest.raises(UserError, match=said):
        listening.check()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_alone_needs_no_key(host: str) -> None:
    Listening(host).check()


def test_a_port_that_is_taken_is_told() -> None:
    with Listening(port=0).open() as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1, port {port}: .*--port"):
            Listening(port=port).open()
