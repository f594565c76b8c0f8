"""Guessing from the text itself: what is guessed, and that no text changes by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.cli.types import GUESS
from edge_router.engine.constrain import Choices
from edge_router.engine.generate import Limits
from edge_router.engine.ladder import Ladder
from edge_router.engine.lookup import LONGEST, SHORTEST, Lookup
from edge_router.engine.sampling import Sampler
from edge_router.engine.verify import ROWS
from tests.engine.test_verify import (
    COMMANDS,
    PROMPT,
    REPLY,
    ROUNDING,
    Wanting,
    rounding,
    text_of,
)
from tests.engine_fixtures import N_CTX, LadderMaker, Scripted, ladder_at, make_ladder, tiny_paths
from tests.tiny_gguf import TIERS

__all__ = ["make_ladder", "tiny_paths"]


def slow_guess(tokens: list[int], most: int) -> list[int]:
    """The same by trying every place."""
    best, start = 0, 0
    for at in range(1, len(tokens)):
        before = tokens[:at]
        shared = 0
        while shared < min(LONGEST, at) and before[-1 - shared] == tokens[-1 - shared]:
            shared += 1
        if shared >= max(best, SHORTEST):
            best, start = shared, at
    return tokens[start : start + most] if best else []


@settings(deadline=None)
@given(
    prompt=st.lists(st.integers(0, 3), max_size=30),
    text=st.lists(st.integers(0, 3), max_size=20),
    most=st.integers(1, 9),
)
def test_what_stood_behind_the_newest_tokens_is_guessed(
    prompt: list[int], text: list[int], most: int
) -> None:
    if prompt + text:
        assert Lookup(prompt, most).after(text) == slow_guess(prompt + text, most)


def test_of_places_that_share_as_much_the_newest_is_taken() -> None:
    assert Lookup([1, 2, 7, 1, 2, 8, 5], 2).after([1, 2]) == [8, 5]
    assert Lookup([3, 1, 2, 7, 9, 1, 2, 8], 1).after([3, 1, 2]) == [7]


def test_the_option_takes_as_many_as_a_batch_has_rows_for() -> None:
    assert GUESS.most == ROWS - 1


# -- in a ladder ----------------------------------------------------------------------------------

REPEATS = PROMPT + "go to countertop 2" + REPLY + "go to fridge 1\nThe fridge 1 is closed.\n> "
PIECES = [
    "go to",
    " countertop 2",
    " fridge 1",
    "\nThe fridge 1 is",
    " mug 1",
    "\n> ",
    "é!",
    "STOP",
]
LIMITS: list[Limits] = [
    {"max_tokens": 9},
    {"max_tokens": 60, "stop": ["STOP", "é!"]},
    {"max_tokens": 60, "stop": ["STOP"], "constrain": Choices(COMMANDS)},
]


@pytest.fixture(scope="module")
def ladder(tiny_paths: dict[str, Path]) -> Ladder:
    """Three tiers, at a prompt that has much to copy from."""
    return ladder_at(tiny_paths, REPEATS)


@settings(deadline=None, max_examples=60)
@given(
    drafted=st.lists(st.sampled_from(PIECES), max_size=8),
    written=st.lists(st.sampled_from(PIECES), max_size=8),
    limits=st.sampled_from(LIMITS),
    lookup=st.integers(1, ROWS),
    chunk=st.integers(1, 7),
)
def test_text_and_logits_are_those_of_a_tier_that_guesses_nothing(
    ladder: Ladder,
    drafted: list[str],
    written: list[str],
    limits: Limits,
    lookup: int,
    chunk: int,
) -> None:
    def script(pieces: list[str]) -> Wanting:
        text = "".join(pieces)
        return Wanting(ladder.vocab.tokenize(text, parse_special=False), ladder.vocab.eos_id)

    options: Any = {"lookup": lookup, **limits}
    alone, guessing, verifying, speculating = (script(written) for _ in range(4))
    expected = ladder.generate(2, alone, **limits)
    assert text_of(ladder.generate(2, guessing, **options)) == text_of(expected)
    draft = ladder.generate(0, script(drafted), **options)
    assert text_of(ladder.verify(2, draft.proposal, verifying, **options)) == text_of(expected)
    speculated = ladder.speculate(2, speculating, script(drafted), chunk=chunk, **options)
    assert text_of(speculated) == text_of(expected)
    for script_ in (guessing, verifying, speculating):
        assert rounding(script_.seen, alone.seen) < ROUNDING


def tokens_of(ladder: Ladder, text: str) -> list[int]:
    return ladder.vocab.tokenize(text, parse_special=False)


def test_a_text_that_repeats_the_prompt_takes_few_batches(ladder: Ladder) -> None:
    tokens = tokens_of(ladder, "go to countertop 2\nOn the countertop 2, you see a mug 1.")
    written = ladder.generate(2, Scripted(tokens), max_tokens=len(tokens), lookup=7)
    plain = ladder.generate(2, Scripted(tokens), max_tokens=len(tokens))
    assert text_of(written) == text_of(plain)
    assert written.decode_tokens == plain.decode_tokens == len(tokens) - 1
    assert written.lookup_accepted > len(tokens) // 2
    assert written.lookup_accepted <= written.lookup_tokens
    assert (plain.lookup_tokens, plain.lookup_accepted) == (0, 0)


def test_what_follows_a_rejected_draft_is_looked_up_as_well(ladder: Ladder) -> None:
    tokens = tokens_of(ladder, "go to countertop 2\nOn the countertop 2, you see a mug 1.")
    draft = ladder.generate(0, Scripted([tokens[0], tokens[-1]]), max_tokens=2)
    verified = ladder.verify(2, draft.proposal, Scripted(tokens), max_tokens=len(tokens), lookup=7)
    assert list(verified.tokens) == tokens
    assert verified.accepted == 1
    assert verified.lookup_accepted > len(tokens) // 2
    assert verified.decode_tokens == len(tokens) - 2  # neither the draft's nor the last


def test_a_guess_ends_where_the_context_does(make_ladder: LadderMaker) -> None:
    ladder = make_ladder()
    ladder.prefill((tokens_of(ladder, REPEATS) * 30)[: N_CTX - 4])
    assert len(ladder.generate(0, Scripted([40] * 4), max_tokens=4, lookup=15).tokens) == 4


@pytest.mark.parametrize("kv", ["handoff", "handoff:9", "exact"])
@pytest.mark.parametrize("tier", [0, 2])
def test_guesses_leave_the_caches_as_writing_without_does(
    make_ladder: LadderMaker, kv: str, tier: int
) -> None:
    def caches(lookup: int) -> list[tuple[list[int], int]]:
        ladder = make_ladder(kv=kv)
        ladder.prefill(tokens_of(ladder, REPEATS))
        script = Scripted(tokens_of(ladder, "go to fridge 1 and look")[:5])
        ladder.generate(tier, script, max_tokens=5, lookup=lookup)
        return [(tier.held, tier.context.n_past) for tier in ladder.tiers]

    assert caches(7) == caches(0)


def test_a_tier_alone_guesses_as_in_its_ladder(ladder: Ladder) -> None:
    alone = ladder.alone(TIERS[2])
    alone.prefill(tokens_of(alone, REPEATS))
    tokens = tokens_of(alone, "go to countertop 2\nOn the countertop 2, you see")
    written = alone.generate(0, Scripted(tokens), max_tokens=len(tokens), lookup=7)
    assert written.lookup_accepted > len(tokens) // 2


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_what_is_drawn_does_not_depend_on_guesses(ladder: Ladder, temperature: float) -> None:
    for seed in range(8):
        plain, guessing = (
            ladder.generate(0, Sampler(temperature, seed=seed), max_tokens=24, lookup=lookup)
            for lookup in (0, 7)
        )
        assert text_of(plain) == text_of(guessing)
