"""The figures that tell a tier from F16: KL, the same likeliest token, perplexity."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_router.convert.verify import (
    GAMES,
    POSITIONS,
    PROSE,
    Fidelity,
    Reference,
    is_absurd,
    log_probabilities,
    most_tokens,
    passages,
    scratch_bytes,
    standard_error,
)
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.quantise import quantise
from edge_router.engine.sampling import log_softmax
from edge_router.tasks.alfworld.household_prompt import HouseholdStyle
from edge_router.tasks.alfworld.react_prompt import ReactStyle
from edge_router.tasks.registry import find_task
from tests.tiny_gguf import TINY_QWEN3, write_tiny

STYLE = ReactStyle()


@pytest.fixture(scope="module")
def f16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("f16"))


@pytest.fixture(scope="module")
def reference(f16: Path) -> Reference:
    return Reference(f16, STYLE, f16.with_suffix(".logits"), threads=1)


def test_a_model_does_not_differ_from_itself(f16: Path, reference: Reference) -> None:
    for found in reference.compare(f16, threads=1).values():
        assert found.kl == pytest.approx(0.0, abs=1e-6)  # single precision
        assert found.same_top == 1.0
        assert found.perplexity == pytest.approx(found.f16_perplexity)


def test_fewer_bits_are_further_from_f16(f16: Path, reference: Reference) -> None:
    kls = []
    for tier in ("q8_0", "q4_k_m", "q2_k"):
        path = f16.with_name(f"{tier}.gguf")
        quantise(f16, path, tier, threads=1)
        found = reference.compare(path, threads=1)
        assert not is_absurd(found)
        kls.append(found[PROSE].kl)
    assert 0 < kls[0] < kls[1] < kls[2]


def test_another_model_of_the_same_shape_is_absurd(reference: Reference, tmp_path: Path) -> None:
    assert is_absurd(reference.compare(write_tiny(tmp_path, seed=5), threads=1))


def test_the_figures_are_those_of_the_textbook(f16: Path, reference: Reference) -> None:
    """Computed once more, token by token, through the engine's other way to logits."""
    path = f16.with_name("textbook.gguf")
    quantise(f16, path, "q4_k_m", threads=1)
    found = reference.compare(path, threads=1)[PROSE]
    prose = next(p for p in reference.passages if p.kind == PROSE)
    rows = []
    for file in (f16, path):
        model = LlamaModel.load(file)
        context = LlamaContext(model, n_ctx=512, n_threads=1)
        logits = []
        for position, token in enumerate(prose.tokens[:-1]):
            context.decode([token], position)
            logits.append(context.logits().copy())
        rows.append(log_softmax(np.array(logits)[prose.first :]))
    p, q = rows
    following = list(prose.tokens[prose.first + 1 :])
    assert found.tokens == prose.scored == len(following)
    # single tokens and batches are rounded differently
    assert found.kl == pytest.approx(float((np.exp(p) * (p - q)).sum(-1).mean()), rel=0.02)
    assert found.same_top == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).mean()), abs=0.05)
    loss = -float(q[np.arange(len(following)), following].mean())
    assert found.perplexity == pytest.approx(math.exp(loss), rel=0.01)


@pytest.mark.parametrize("positions", [16, POSITIONS, 200])
def test_so_many_positions_are_compared_as_were_asked_for(f16: Path, positions: int) -> None:
    model = LlamaModel.load(f16)
    for style in (ReactStyle(), HouseholdStyle()):
        found = passages(model, style, positions)
        assert [p.kind for p in found] == [PROSE, GAMES, GAMES]
        for kind in (PROSE, GAMES):
            assert sum(p.scored for p in found if p.kind == kind) == positions
        count = sum(p.scored for p in found)
        assert count * model.n_vocab * 4 <= scratch_bytes(model.n_vocab, positions)
        assert sum(len(p.tokens) for p in found) == most_tokens(positions)


def test_two_thirds_of_what_is_read_are_compared_and_games_are_read_from_their_end(
    f16: Path,
) -> None:
    """A game's opening is a thousand tokens that tell nothing more of a tier than its end does."""
    model = LlamaModel.load(f16)
    found = passages(model, HouseholdStyle())
    assert sum(p.scored for p in found) > sum(len(p.tokens) for p in found) * 2 / 3
    game = found[1].tokens
    *_, last = next(iter(find_task().verification(HouseholdStyle())))
    assert model.join(game[-20:]).decode().strip() in last["content"]
    assert game[0] == passages(model, ReactStyle())[1].tokens[0]  # what begins every chat


def test_the_error_shrinks_with_the_positions_and_counts_neighbours_that_are_alike() -> None:
    values = np.random.default_rng(0).gamma(1.0, 1.0, 6400)
    short, long = standard_error(values[:400]), standard_error(values)
    assert short is not None
    assert long is not None
    assert long == pytest.approx(1 / 80, rel=0.1)  # what independent values have
    assert 2 < short / long < 8
    alike = standard_error(np.repeat(values[:800], 8))
    assert alike == pytest.approx(800**-0.5, rel=0.2)  # eight in a row say no more than one
    assert standard_error(values[:1]) is None


def test_figures_come_with_an_error(f16: Path, reference: Reference) -> None:
    path = f16.with_name("error.gguf")
    quantise(f16, path, "q2_k", threads=1)
    for found in reference.compare(path, threads=1).values():
        assert found.tokens == POSITIONS
        assert found.kl_error is not None
        assert 0 < found.kl_error < found.kl / 4


def test_log_probabilities_are_those_of_double_precision() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (4, 150_000)).astype(np.float32)
    assert np.abs(log_probabilities(logits) - log_softmax(logits)).max() < 1e-5


def test_a_short_context_cuts_the_passages(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, replace(TINY_QWEN3, name="short", context=200))
    model = LlamaModel.load(path)
    assert all(len(p.tokens) <= 200 for p in passages(model, STYLE))
    reference = Reference(path, STYLE, tmp_path / "logits", threads=1)
    assert reference.compare(path, threads=1)[GAMES].tokens > 0


@pytest.mark.parametrize(
    ("kl", "absurd"), [(0.0, False), (2.9, False), (3.1, True), (math.nan, True), (math.inf, True)]
)
def test_half_of_what_guessing_has_is_too_much(kl: float, absurd: bool) -> None:
    found = Fidelity(kl, 0.5, 10.0, 9.0, guessing_kl=6.0, tokens=100)
    assert is_absurd({PROSE: found}) is absurd
