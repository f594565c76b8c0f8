"""A constrained text always ends in exactly one of the choices, whatever the model would write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.engine.constrain import Choices, TokenTrie
from edge_router.engine.ladder import Ladder, TierSpec
from edge_router.engine.sampling import Draw, Sampler
from tests.engine_fixtures import Scripted, tiny_paths

__all__ = ["tiny_paths"]


@pytest.fixture(scope="module")
def ladder(tiny_paths: dict[str, Path]) -> Ladder:
    """Two tiers of the tiny model."""
    specs = [TierSpec(n, tiny_paths[n]) for n in ("q4_k_m", "q8_0")]
    return Ladder.load(specs, n_ctx=512, n_threads=1)


COMMANDS = (
    "go to desk 1",
    "go to desk 10",
    "go to desk 12",
    "go to fridge 1",
    "take mug 1 from desk 1",
    "look",
)
EOG = 0


class Words:
    """A vocabulary of given byte strings besides the single bytes; token 0 ends a generation."""

    eog_ids = (EOG,)

    def __init__(self, words: Sequence[str]) -> None:
        pieces = [b"", *(bytes([b]) for b in range(256)), *(w.encode() for w in words)]
        self.pieces = pieces
        self.by_piece = {p: i for i, p in reversed(list(enumerate(pieces))) if p}

    def likely(self) -> list[int]:
        """The words, the bytes they are made of, and the end."""
        made_of = set(b"".join(self.pieces[257:])) | set(b"ab >\n")
        return [EOG, *(1 + b for b in sorted(made_of)), *range(257, len(self.pieces))]

    def token_bytes(self, token: int) -> bytes:
        return self.pieces[token]

    def tokenize_after(self, text: str) -> list[int]:
        """Longest piece first, as a stand-in for merges."""
        data, ids = text.encode(), []
        while data:
            n = next(n for n in range(len(data), 0, -1) if data[:n] in self.by_piece)
            ids.append(self.by_piece[data[:n]])
            data = data[n:]
        return ids


def ending(text: str, marker: str = "\n>") -> str:
    """What follows the first marker."""
    _head, found, tail = text.partition(marker)
    assert found, text
    return tail


@given(
    words=st.lists(st.text("ab >\né", min_size=1, max_size=5), max_size=12),
    choices=st.lists(st.text("ab >é", min_size=1, max_size=6), min_size=1, max_size=8),
    marker=st.sampled_from(["\n>", ">", "\nab:", "aab"]),
    lead=st.sampled_from(["", "\n", "x\n", "aa", "..aab"]),
    data=st.data(),
)
def test_whatever_is_sampled_the_text_ends_in_a_choice(
    words: list[str], choices: list[str], marker: str, lead: str, data: st.DataObject
) -> None:
    vocabulary = Words(words)
    guide = Choices(tuple(choices), marker=marker, lead=lead).start(vocabulary)
    written, free_limit = b"", data.draw(st.integers(0, 12))
    written_tokens = 0
    while True:
        forced = guide.take_forced()
        written += b"".join(map(vocabulary.token_bytes, forced))
        written_tokens += len(forced)
        if guide.done:
            break
        ids = guide.allowed()
        token = data.draw(st.sampled_from(vocabulary.likely() if ids is None else ids.tolist()))
        if guide.free and (token == EOG or written_tokens >= free_limit):
            guide.end_thought()
            written_tokens = 0
        elif token == EOG:
            break
        else:
            tokens = guide.accept(token)
            written += b"".join(map(vocabulary.token_bytes, tokens))
            written_tokens += len(tokens)
    text = (lead.encode() + written).decode("utf-8", "replace")
    assert ending(text, marker) in {f" {c}" for c in choices}


@settings(deadline=None, max_examples=50)
@given(
    choices=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=12),
        min_size=1,
        max_size=10,
    ),
    seed=st.integers(0, 10**6),
    max_tokens=st.integers(0, 24),
    tier=st.integers(0, 1),
)
def test_a_real_model_ends_in_a_choice_too(
    ladder: Ladder, choices: list[str], seed: int, max_tokens: int, tier: int
) -> None:
    ladder.prefill(ladder.vocab.tokenize("You see a desk 1.\n"))
    step = ladder.generate(
        tier,
        Sampler(1.5, seed=seed),
        max_tokens=max_tokens,
        constrain=Choices(tuple(choices)),
    )
    assert ending(step.text) in {f" {c}" for c in choices}
    assert step.stop_reason == "constraint"
    assert ladder.vocab.detokenize(step.tokens) == step.text


def test_an_ending_outside_the_choices_is_never_asked_for(ladder: Ladder) -> None:
    vocab = ladder.vocab
    guide = Choices(COMMANDS, lead="\n>").start(vocab)
    assert not guide.free
    for token in vocab.tokenize_after(" go to desk 1"):
        guide.take_forced()
        ids = guide.allowed()
        if ids is not None and token in ids:
            guide.accept(token)
    ids = guide.allowed()
    assert ids is not None
    nexts = {vocab.detokenize([int(i)]) for i in ids}
    assert nexts == {"0", "2", "", "\n"}  # desk 10, desk 12, or the end in two ways


def test_what_the_model_prefers_among_the_choices_is_chosen(ladder: Ladder) -> None:
    ladder.prefill(ladder.vocab.tokenize("You see a desk 1."))
    for command in COMMANDS:
        wanted = ladder.vocab.tokenize(f"\n> {command}")
        script = _Preferring(wanted, ladder.vocab.eos_id)
        step = ladder.generate(0, script, max_tokens=40, constrain=Choices(COMMANDS))
        assert step.text == f"\n> {command}"


class _Preferring(Sampler):
    """Takes the first of the wanted tokens that may be taken, the end if none may."""

    def __init__(self, wanted: list[int], end: int) -> None:
        super().__init__()
        self.wanted, self.end = wanted, end

    def sample(
        self, logits: np.ndarray, allowed: np.ndarray | None = None, proposed: Draw | None = None
    ) -> int:
        while self.wanted:
            token = self.wanted.pop(0)
            if allowed is None or token in allowed:
                return token
        return self.end


def test_a_stop_string_ends_the_thought_only(ladder: Ladder) -> None:
    vocab = ladder.vocab
    ladder.prefill(vocab.tokenize("You see a desk 1."))
    script = _Preferring(vocab.tokenize("hmm\nObservation: a"), vocab.eos_id)
    constraint = Choices(("look",), marker="\nAction:")
    step = ladder.generate(0, script, max_tokens=60, stop=["\nObservation"], constrain=constraint)
    assert step.text == "hmm\nAction: look"
    assert vocab.detokenize(step.tokens) == step.text
    held = ladder.tiers[0].held  # nothing of what was cut off stays in the cache
    assert held == vocab.tokenize("You see a desk 1.") + list(step.tokens[: step.decode_tokens])


def test_a_half_written_marker_is_completed_not_repeated(ladder: Ladder) -> None:
    vocab = ladder.vocab
    ladder.prefill(vocab.tokenize("You see a desk 1."))
    script = _Preferring([*vocab.tokenize("plan: desk\n"), vocab.eos_id], vocab.eos_id)
    step = ladder.generate(0, script, max_tokens=40, constrain=Choices(("look",)))
    assert step.text == "plan: desk\n> look"


def test_tokens_without_a_choice_cost_no_decode_of_their_own(ladder: Ladder) -> None:
    vocab = ladder.vocab
    ladder.prefill(vocab.tokenize("You see a desk 1."))
    script = Scripted([vocab.eos_id])
    step = ladder.generate(0, script, max_tokens=40, constrain=Choices(("go to desk 1",)))
    assert step.text == "\n> go to desk 1"
    assert (len(script.seen), step.decode_tokens) == (1, 0)


def test_a_trie_shares_beginnings_and_knows_its_ends() -> None:
    trie = TokenTrie([[1, 2], [1, 2, 3], [4]])
    assert trie.allowed(0).tolist() == [1, 4]
    node = trie.step(trie.step(0, 1), 2)
    assert trie.is_end(node)
    assert trie.allowed(node).tolist() == [3]
    assert trie.longest == 3
    with pytest.raises(KeyError):
        trie.step(0, 2)


@pytest.mark.parametrize(
    ("choices", "marker"),
    [((), "\n>"), (("",), "\n>"), (("a\nb",), "\n>"), (("a",), ""), (("a",), "→")],
)
def test_a_constraint_that_cannot_be_kept_is_an_error(
    choices: tuple[str, ...], marker: str
) -> None:
    with pytest.raises(ValueError, match=r"cannot be a choice|needs an ASCII marker"):
        Choices(choices, marker=marker)
