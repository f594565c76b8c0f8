"""Ladders of tiny models, made once a test session and shared by every test of the engine.

Import what is needed into a test module: `from tests.engine_fixtures import tiny_paths`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_router.engine.ladder import Ladder, TierSpec
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.sampling import Draw, Sampler
from tests.tiny_gguf import TIERS, TINY_LLAMA, TINY_QWEN3, write_tiny_ladder

N_CTX = 512
LadderMaker = Callable[..., Ladder]


@pytest.fixture(scope="session")
def tiny_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tier name -> GGUF of the tiny Qwen3-shaped model: q3_k_m, q4_k_m, q8_0, f16."""
    return write_tiny_ladder(tmp_path_factory.mktemp("tiny-qwen3"), TINY_QWEN3, (*TIERS, "f16"))


@pytest.fixture(scope="session")
def tiny_llama_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tier name -> GGUF of the tiny Llama-shaped model."""
    return write_tiny_ladder(tmp_path_factory.mktemp("tiny-llama"), TINY_LLAMA)


@pytest.fixture(scope="session")
def tiny_model(tiny_paths: dict[str, Path]) -> LlamaModel:
    """The tiny Qwen3-shaped model at q8_0."""
    return LlamaModel.load(tiny_paths["q8_0"])


@pytest.fixture
def make_ladder(tiny_paths: dict[str, Path]) -> Iterator[LadderMaker]:
    """Function that loads tiers of the tiny model by name; the ladders are closed at the end."""
    with ExitStack() as stack:

        def make(*names: str, **options: object) -> Ladder:
            specs = [TierSpec(n, tiny_paths[n]) for n in names or TIERS]
            settings: dict[str, object] = {"n_ctx": N_CTX, "n_threads": 1, **options}
            ladder = Ladder.load(specs, **settings)  # type: ignore[arg-type]
            stack.callback(ladder.close)
            return ladder

        yield make


def ladder_at(paths: dict[str, Path], prompt: str) -> Ladder:
    """Three tiers of the tiny model, at a prompt."""
    specs = [TierSpec(name, paths[name]) for name in TIERS]
    ladder = Ladder.load(specs, n_ctx=N_CTX, n_threads=1)
    ladder.prefill(ladder.vocab.tokenize(prompt))
    return ladder


class Scripted(Sampler):
    """A sampler that writes given tokens whatever the logits, and remembers the logits."""

    def __init__(self, tokens: Sequence[int]) -> None:
        super().__init__()
        self._tokens = list(tokens)
        self.seen: list[NDArray[np.float32]] = []

    def sample(
        self,
        logits: NDArray[np.float32],
        allowed: NDArray[np.intp] | None = None,
        proposed: Draw | None = None,
    ) -> int:
        self.seen.append(logits.copy())
        return self._tokens.pop(0)
