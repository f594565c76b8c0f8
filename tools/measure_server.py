"""Time to first token and tokens/s of `edge-router serve` against llama-cpp-python's own server.

    pip install 'llama-cpp-python[server]'
    python -m tools.measure_server GGUF ... [--rounds 20] [--tokens 64] [--threads 2]

Both serve the same file, alone, with the same threads and context. They take turns at the same
prompts, which share no beginning: greedy, streamed, over HTTP on this machine. So a round gives a
ratio, and the table its median with the 95 % interval of the bootstrap over rounds; above 1 is in
favour of edge-router. The texts have to be the same. Needs the machine for itself.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from edge_router.results.machine import machine_details
from edge_router.results.statistics import Estimate, median
from edge_router.screen.tables import Sheet
from edge_router.work.processes import python_module

CONTEXT: Final = 1024
WARM_UP: Final = 2  # rounds that are not counted
PAUSE: Final = 0.3  # seconds in which the other server's threads fall asleep
WORDS: Final = ("cup", "desk", "lamp", "shelf", "door", "river", "stone", "cloud", "apple", "green")


@dataclass(frozen=True)
class Timed:
    """One answer as its client saw it."""

    first_ms: float  # from sending the request to the first text
    tokens_per_second: float  # from then on
    text: str


@dataclass(frozen=True)
class Round:
    """The same prompt, answered by both."""

    ours: Timed
    theirs: Timed


@dataclass(frozen=True)
class Compared:
    """One file."""

    file: str
    prompt_words: int
    tokens: int
    rounds: list[Round]

    @property
    def first(self) -> Estimate:
        """Their time to the first token by ours."""
        return median([one.theirs.first_ms / one.ours.first_ms for one in self.rounds])

    @property
    def speed(self) -> Estimate:
        """Our tokens/s by theirs."""
        speeds = [one.ours.tokens_per_second / one.theirs.tokens_per_second for one in self.rounds]
        return median(speeds)

    def table(self) -> str:
        """Time to first token and tokens/s: ours, theirs, the ratio and its interval."""
        rows = []
        for what, field, ratio in (
            ("first token, ms", "first_ms", self.first),
            ("tokens/s", "tokens_per_second", self.speed),
        ):
            ours = median([getattr(one.ours, field) for one in self.rounds]).value
            theirs = median([getattr(one.theirs, field) for one in self.rounds]).value
            interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
            rows.append((what, f"{ours:.1f}", f"{theirs:.1f}", f"{ratio.value:.3f}", interval))
        title = f"{self.file}, {len(self.rounds)} rounds"
        return Sheet(title, ("", "edge-router", "llama_cpp.server", "ratio", "95 %"), rows).text()


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], port: int) -> Iterator[httpx.Client]:
    """A server's process, and a client of it when it answers."""
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}/v1", timeout=120)
    quiet = subprocess.DEVNULL
    with client, subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            _wait_for(client, process)
            yield client
        finally:
            process.terminate()
            process.wait()


def _wait_for(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            client.get("/models").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(
        f"a server ended with code {process.returncode}; start it by hand to see why"
    )


def our_command(path: Path, port: int, threads: int) -> list[str]:
    """The file as a ladder of one tier."""
    places = ["--tier", f"only={path}", "--router", "low", "--ctx", str(CONTEXT)]
    runtime = ["--port", str(port), "--threads", str(threads), "--slots", "1"]
    return python_module("edge_router.cli", "serve", *places, *runtime)


def their_command(path: Path, port: int, threads: int) -> list[str]:
    """llama-cpp-python's own server."""
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(path), "--port", str(port)]
    count = str(threads)
    command += ["--n_threads", count, "--n_threads_batch", count, "--n_ctx", str(CONTEXT)]
    return [*command, "--verbose", "False"]


def prompt(number: int, words: int) -> str:
    """Prompts with different numbers have nothing of their beginning in common."""
    draw = random.Random(number)
    return f"{number} " + " ".join(draw.choice(WORDS) for _ in range(words))


def ask(client: httpx.Client, model: str, text: str, tokens: int) -> Timed:
    """Stream a completion of exactly so many tokens. Raises `RuntimeError` for a shorter one."""
    asked = {"model": model, "prompt": text, "max_tokens": tokens, "temperature": 0, "stream": True}
    pieces, times, reason = list[str](), list[float](), None
    started = time.perf_counter()
    with client.stream("POST", "/completions", json=asked) as reply:
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            now = time.perf_counter()
            choice: dict[str, Any] = json.loads(line.removeprefix("data: "))["choices"][0]
            reason = choice["finish_reason"] or reason
            if choice["text"]:
                pieces.append(choice["text"])
                times.append(now - started)
    if reason != "length":
        raise RuntimeError(f"an answer ended early ({reason}); take fewer --tokens")
    return Timed(1000 * times[0], (tokens - 1) / (times[-1] - times[0]), "".join(pieces))


def compare(path: Path, rounds: int, words: int, tokens: int, threads: int) -> Compared:
    """Start both servers, and let them take turns."""
    made = []
    with ExitStack() as stack:
        clients = []
        for command in (our_command, their_command):
            port = free_port()
            clients.append(stack.enter_context(serving(command(path, port, threads), port)))
        for number in range(-WARM_UP, rounds):
            timed: dict[int, Timed] = {}
            for which in (0, 1) if number % 2 else (1, 0):
                time.sleep(PAUSE)
                name = "ladder" if which == 0 else str(path)
                timed[which] = ask(clients[which], name, prompt(number + 1000, words), tokens)
            if number >= 0:
                made.append(Round(timed[0], timed[1]))
    return Compared(path.stem, words, tokens, made)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="GGUF")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--words", type=int, default=100, help="of each prompt")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = [
        compare(path, options.rounds, options.words, options.tokens, options.threads)
        for path in options.files
    ]
    for one in found:
        print(one.table(), end="\n\n")
    rounds = [each for one in found for each in one.rounds]
    same = sum(each.ours.text == each.theirs.text for each in rounds)
    print(f"the same text in {same} of {len(rounds)} rounds")
    if options.json:
        kept = {"machine": machine_details(options.threads), "files": [asdict(x) for x in found]}
        options.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
