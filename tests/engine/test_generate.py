"""Text while it grows: whole characters, stop strings cut off, tokens that match the text."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.engine.generate import TextStream
from edge_router.engine.ladder import Generation, Ladder, TierSpec
from tests.engine_fixtures import Scripted, tiny_paths

__all__ = ["tiny_paths"]

STOPS = ["\nObservation", "STOP", "é!"]


@pytest.fixture(scope="module")
def ladder(tiny_paths: dict[str, Path]) -> Ladder:
    """One tier, at a prompt."""
    ladder = Ladder.load([TierSpec("q8_0", tiny_paths["q8_0"])], n_ctx=512, n_threads=1)
    ladder.prefill(ladder.vocab.tokenize("You see a desk 1."))
    return ladder


def write(ladder: Ladder, tokens: list[int], **options: object) -> Generation:
    settings: dict[str, object] = {"max_tokens": len(tokens), "stop": STOPS, **options}
    return ladder.generate(0, Scripted(tokens), **settings)  # type: ignore[arg-type]


@given(data=st.binary(max_size=40), cuts=st.lists(st.integers(0, 40), max_size=10))
def test_pieces_shown_join_to_the_text_however_the_bytes_are_cut(
    data: bytes, cuts: list[int]
) -> None:
    shown: list[str] = []
    stream = TextStream(STOPS, shown.append)
    places = [0, *sorted(cuts), len(data)]
    stopped = any(stream.push(data[a:b]) for a, b in itertools.pairwise(places) if a < b)
    expected = min((i for s in STOPS if (i := data.find(s.encode())) >= 0), default=len(data))
    assert stopped == (expected < len(data))
    if not stopped:
        assert stream.finish() == data.decode("utf-8", "replace")
    assert "".join(shown) == stream.text[: len("".join(shown))]
    assert all(s not in "".join(shown) for s in STOPS)


@settings(deadline=None)
@given(
    head=st.text(st.characters(codec="utf-8"), max_size=12),
    stop=st.sampled_from(STOPS),
    tail=st.text(max_size=4),
    bytewise=st.booleans(),
)
def test_a_stop_string_is_cut_off_the_text_and_the_tokens(
    ladder: Ladder, head: str, stop: str, tail: str, bytewise: bool
) -> None:
    vocab, whole = ladder.vocab, head + stop + tail
    tokens = vocab.tokenize(whole, parse_special=False)
    if bytewise:
        tokens = [t for c in whole for t in vocab.tokenize(c, parse_special=False)]
    shown: list[str] = []
    step = write(ladder, tokens, on_text=shown.append)
    assert step.stop_reason == "stop"
    assert step.text == whole[: min(whole.find(s) for s in STOPS if s in whole)]
    assert "".join(shown) == step.text
    assert vocab.detokenize(step.tokens) == step.text


def test_a_token_that_straddles_a_stop_string_leaves_its_first_part(ladder: Ladder) -> None:
    vocab = ladder.vocab
    straddling = vocab.tokenize("go to")
    piece = vocab.token_bytes(straddling[-1]).decode()
    assert len(piece) > 1
    step = write(ladder, straddling, stop=[piece[1:]])
    assert step.text == "go to"[: -len(piece) + 1]
    assert vocab.detokenize(step.tokens) == step.text


def test_generation_ends_at_the_end_token_and_leaves_it_out(ladder: Ladder) -> None:
    vocab = ladder.vocab
    script = [*vocab.tokenize("look"), vocab.eos_id, *vocab.tokenize("more")]
    step = write(ladder, script)
    assert (step.text, step.stop_reason) == ("look", "eog")
    assert list(step.tokens) == vocab.tokenize("look")
    assert step.decode_tokens == len(step.tokens)  # to see the end token


def test_generation_ends_at_the_limit(ladder: Ladder) -> None:
    step = write(ladder, ladder.vocab.tokenize("look at the desk"), max_tokens=2)
    assert (len(step.tokens), step.stop_reason, step.decode_tokens) == (2, "max_tokens", 1)
    assert write(ladder, [], max_tokens=0).tokens == ()


def test_half_a_character_is_shown_when_it_is_whole(ladder: Ladder) -> None:
    shown: list[str] = []
    tokens = ladder.vocab.tokenize("a→b")
    assert len(tokens) > 3
    write(ladder, tokens, on_text=shown.append)
    assert shown == ["a", "→", "b"]
