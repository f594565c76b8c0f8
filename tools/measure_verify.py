"""What verifying a draft changes and saves: every step in several ways, on one ladder.

    python -m tools.measure_verify --model household --steps 2000 --chunks 4,8

The high tier plays generated games in the simulator. Before each step the low tier drafts it;
the high tier writes it anew, verifies the draft, and writes it with drafts of a few tokens at a
time, all after the same prompt on the same cache. Counted are the texts and commands that differ
from what the high tier writes alone (by the rounding of batches, nothing else) and what was
accepted; timed is each way of coming to the text, the low tier's reading of the prompt and the
handoff left out. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edge_router.agent.prompt import Prompt, make_room
from edge_router.agent.template import ChatTemplate
from edge_router.engine.generate import Limits
from edge_router.engine.ladder import Generation, Ladder, default_context
from edge_router.engine.sampling import Sampler
from edge_router.ladders.resolve import resolve
from edge_router.screen.printable import say
from edge_router.tasks.alfworld.game import SimulatedGame
from edge_router.tasks.household.generator import draw_world
from edge_router.tasks.household.rules import KIND_NAMES
from edge_router.tasks.parse import parse_step
from edge_router.tasks.protocol import PromptStyle
from edge_router.tasks.registry import find_task, style_for

MAX_STEPS = 50


@dataclass
class Way:
    """One way of coming to a step's text, over many steps."""

    ms: float = 0.0
    steps: int = 0
    texts: int = 0  # those that differ
    commands: int = 0
    drafted: int = 0
    accepted: int = 0
    lengths: list[int] = field(default_factory=list)  # accepted in a row, of each step

    def add(self, found: Generation, alone: Generation, draft_ms: float = 0.0) -> None:
        """One step; `alone` is what the high tier wrote without a draft."""
        self.steps += 1
        self.ms += draft_ms + found.draft_ms + found.catchup_ms + found.verify_ms + found.decode_ms
        self.texts += found.text != alone.text
        self.commands += parse_step(found.text).action != parse_step(alone.text).action
        self.drafted += found.drafted
        self.accepted += found.accepted
        self.lengths.append(found.accepted)

    def line(self, name: str) -> str:
        rate = f"{100 * self.accepted / self.drafted:5.1f} %" if self.drafted else "      -"
        return (
            f"{name:24} {self.ms / self.steps:8.2f} ms/step  {self.texts:4} texts"
            f" {self.commands:4} commands differ  accepted {rate}"
        )


def games() -> Iterator[SimulatedGame]:
    """Households without end, the six task types in turn."""
    for number in itertools.count():
        rng = random.Random(f"verify {number}")
        yield SimulatedGame(draw_world(rng, KIND_NAMES[number % len(KIND_NAMES)]))


class Measurement:
    """Plays games with the high tier and sums up every way to its steps."""

    def __init__(self, ladder: Ladder, style: PromptStyle, chunks: Sequence[int]) -> None:
        self.ladder, self.style, self.chunks = ladder, style, chunks
        names = ["low", "high", "draft, rewrite", "draft, verify", *(f"verify:{n}" for n in chunks)]
        self.ways = {name: Way() for name in names}

    def play(self, limit: int) -> None:
        """Play until `limit` steps are measured."""
        template = ChatTemplate.of(self.ladder.vocab)
        for game in games():
            self.ladder.clear()
            prompt = Prompt(template, self.ladder.vocab, self.style.opening(game.reset()))
            for _ in range(MAX_STEPS):
                make_room(prompt, self.ladder.n_ctx - self.style.max_tokens)
                written = self._step(prompt)
                reply = game.step(parse_step(written.text).action)
                prompt.add(written.tokens, written.text, self.style.reply(reply.observation))
                if self.ways["high"].steps >= limit:
                    return
                if reply.done:
                    break

    def _step(self, prompt: Prompt) -> Generation:
        limits: Limits = {"max_tokens": self.style.max_tokens, "stop": self.style.stop}
        ladder, ways, high = self.ladder, self.ways, len(self.ladder.tiers) - 1
        ladder.prefill(prompt.tokens)
        draft = ladder.generate(0, Sampler(), **limits)
        alone = ladder.generate(high, Sampler(), **limits)
        ways["low"].add(draft, alone)
        ways["high"].add(alone, alone)
        ways["draft, rewrite"].add(alone, alone, draft.decode_ms)
        verified = ladder.verify(high, draft.proposal, Sampler(), **limits)
        ways["draft, verify"].add(verified, alone, draft.decode_ms)
        for chunk in self.chunks:
            ladder.prefill(prompt.tokens)
            found = ladder.speculate(high, Sampler(), Sampler(), chunk=chunk, **limits)
            ways[f"verify:{chunk}"].add(found, alone)
        return alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="household")
    parser.add_argument("--kv", default="handoff")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--chunks", default="4,8", help="tokens drafted at a time")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    found = resolve(given.model, ())
    chunks = [int(word) for word in given.chunks.split(",") if word]
    with Ladder.load(
        found.tiers, kv=given.kv, n_ctx=default_context(found.tiers), n_threads=given.threads
    ) as ladder:
        style = style_for(find_task(), ladder.vocab.metadata, found.prompt)
        measurement = Measurement(ladder, style, chunks)
        measurement.play(given.steps)
    ways = measurement.ways
    for name, way in ways.items():
        say(way.line(name))
    lengths = sorted(ways["draft, verify"].lengths)
    at = [lengths[len(lengths) * share // 10] for share in range(1, 10)]
    say(
        f"accepted in a row, deciles: {at}; tokens drafted a step:"
        f" {ways['draft, verify'].drafted / len(lengths):.1f}"
    )


if __name__ == "__main__":
    main()
