"""Tokens a second of one tier in four ways, on the same GGUF and prompt, taken in turn.

- ours: the loop that plays (sample, detokenise, stop strings), `Ladder.generate`;
- raw: bare `llama_decode` calls as llama-bench makes them, no logits read, no token chosen;
- `Llama.generate` of llama-cpp-python: decode and sample, no text;
- `Llama.create_completion`: what most programs call; its prompt is in its cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.bench.timing import Sample, in_turn
from edge_router.engine.ladder import Ladder, Tier
from edge_router.engine.llama import raw_decode
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.sampling import Draw, Sampler

PROMPT_TOKENS: Final = 64
STOPS: Final = ("\nObservation:",)
LOOPS: Final = ("ours", "raw", "llama_generate", "llama_completion")


class Endless(Sampler):
    """Greedy, but never ends: an end token is replaced, after the same work."""

    def __init__(self, model: LlamaModel) -> None:
        super().__init__()
        self._model = model

    def sample(
        self,
        logits: NDArray[np.float32],
        allowed: NDArray[np.intp] | None = None,
        proposed: Draw | None = None,
    ) -> int:
        """The likeliest token by logits (vocabulary,), or 0 in place of an end."""
        token = super().sample(logits, allowed, proposed)
        return 0 if self._model.is_eog(token) else token


def loop_speeds(ladder: Ladder, tokens: int, repeats: int) -> dict[str, Sample]:
    """Tokens a second of each loop, on a ladder of one tier, after the same prompt.

    `llama_completion` is missing where the model ends its completion before `tokens`.
    """
    tier, prompt = ladder.tiers[0], ordinary_text(ladder, PROMPT_TOKENS)
    other = HighLevel(tier, n_ctx=ladder.n_ctx)
    written = list[int]()

    def ours() -> float:
        ladder.prefill(prompt)
        step = ladder.generate(0, Endless(tier.model), max_tokens=tokens + 1, stop=STOPS)
        written[:] = step.tokens
        return step.decode_tokens / (step.decode_ms / 1000.0)

    def raw() -> float:
        ladder.prefill(prompt)
        known = written[:tokens]  # fewer where a stop string ended the text
        return len(known) / raw_decode(tier.context, known)

    try:
        taken: dict[str, Callable[[], float]] = {
            "ours": ours,
            "raw": raw,
            "llama_generate": lambda: other.generate(prompt, tokens),
        }
        if other.writes(prompt, tokens):
            taken["llama_completion"] = lambda: other.completion(prompt, tokens)
        return dict(zip(taken, in_turn(list(taken.values()), repeats), strict=True))
    finally:
        other.close()


class HighLevel:
    """llama-cpp-python's `Llama` on a tier's file, with the same threads and context."""

    def __init__(self, tier: Tier, *, n_ctx: int) -> None:
        from llama_cpp import Llama

        threads = tier.context.n_threads
        self._llama: Any = Llama(
            str(tier.path),
            n_ctx=n_ctx,
            n_threads=threads,
            n_threads_batch=threads,
            n_batch=512,
            n_gpu_layers=tier.model.gpu_layers,
            verbose=False,
        )

    def generate(self, prompt: list[int], tokens: int) -> float:
        """Tokens a second of `Llama.generate`, greedy, the prompt's prefill not counted."""
        stream = self._llama.generate(prompt, temp=0.0)
        next(stream)
        started = time.perf_counter()
        for _ in islice(stream, tokens):
            pass
        return tokens / (time.perf_counter() - started)

    def completion(self, prompt: list[int], tokens: int) -> float:
        """Tokens a second of `Llama.create_completion`, greedy, with the prompt in its cache.

        Its last prompt token is decoded again, its last written one is not: as many
        decodes as tokens.
        """
        started = time.perf_counter()
        wrote = self._complete(prompt, tokens)
        return wrote / (time.perf_counter() - started)

    def writes(self, prompt: list[int], tokens: int) -> bool:
        """Whether a completion gets to `tokens`; a trained model may end it before."""
        return self._complete(prompt, tokens) == tokens

    def _complete(self, prompt: list[int], tokens: int) -> int:
        done = self._llama.create_completion(
            prompt, max_tokens=tokens, temperature=0.0, stop=list(STOPS)
        )
        return int(done["usage"]["completion_tokens"])

    def close(self) -> None:
        self._llama.close()


def ordinary_text(ladder: Ladder, tokens: int) -> list[int]:
    """That many tokens of an ordinary text."""
    ids = ladder.vocab.tokenize("You see a countertop 2, a mug 1, and a fridge 1. ")
    return (ids * (tokens // len(ids) + 1))[:tokens]


def hold(tier: Tier, text: list[int]) -> None:
    """Let the tier's context hold exactly `text`, which it may hold a beginning of already."""
    if tier.context.n_past < len(text):
        tier.context.decode(text[tier.context.n_past :], tier.context.n_past)
    tier.context.truncate(len(text))
