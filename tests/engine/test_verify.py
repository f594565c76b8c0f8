"""A tier that is given a draft writes what it would have written alone, and draws as it would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_router.engine.constrain import Choices
from edge_router.engine.generate import Limits
from edge_router.engine.ladder import ContextOverflowError, Generation, Ladder
from edge_router.engine.sampling import Distribution, Draw, Sampler
from edge_router.engine.verify import ROWS
from tests.engine_fixtures import N_CTX, LadderMaker, Scripted, ladder_at, make_ladder, tiny_paths

__all__ = ["make_ladder", "tiny_paths"]

PROMPT = "You are in the middle of a room. You see a fridge 1, and a countertop 2.\n> "
REPLY = "\nOn the countertop 2, you see a mug 1.\n> "
COMMANDS = ("look", "go to fridge 1", "go to countertop 2", "take mug 1 from countertop 2")
# Root mean square over a row of logits, between a batch and single tokens. 3,000 drawn examples
# had 0.034 at most; rows of neighbouring positions are 0.24 apart or more, their spread is 2.
ROUNDING = 0.1


@pytest.fixture(scope="module")
def ladder(tiny_paths: dict[str, Path]) -> Ladder:
    """Three tiers, at a prompt."""
    return ladder_at(tiny_paths, PROMPT)


def text_of(generation: Generation) -> tuple[object, ...]:
    """What has to be the same however a text came about."""
    return generation.tokens, generation.text, generation.stop_reason


def rounding(some: list[NDArray[np.float32]], others: list[NDArray[np.float32]]) -> float:
    """The largest root mean square difference between two rows of logits."""
    squares = (np.array(some) - np.array(others)) ** 2
    return float(np.sqrt(squares.mean(axis=1)).max())


# -- the text -------------------------------------------------------------------------------------

PIECES = ["look", " at", "\n", ">", "\n> ", " go to", " fridge 1", "é!", "STOP", " mug 1 from", ""]
LIMITS: list[Limits] = [
    {"max_tokens": 9},
    {"max_tokens": 60, "stop": ["\nObservation", "STOP", "é!"]},
    {"max_tokens": 60, "stop": ["\n\n", "STOP"], "constrain": Choices(COMMANDS)},
    {"max_tokens": 24, "constrain": Choices(COMMANDS, lead="\n")},
]


class Wanting(Scripted):
    """Writes a script where it may; ends, or takes the last that is allowed, where it may not."""

    def __init__(self, tokens: Sequence[int], end: int) -> None:
        super().__init__(tokens)
        self._end = end

    def sample(
        self,
        logits: NDArray[np.float32],
        allowed: NDArray[np.intp] | None = None,
        proposed: Draw | None = None,
    ) -> int:
        self.seen.append(logits.copy())
        token = self._tokens.pop(0) if self._tokens else self._end
        return token if allowed is None or token in allowed else int(allowed[-1])


@settings(deadline=None, max_examples=60)
@given(
    common=st.lists(st.sampled_from(PIECES), max_size=8),
    drafted=st.lists(st.sampled_from(PIECES), max_size=6),
    written=st.lists(st.sampled_from(PIECES), max_size=6),
    limits=st.sampled_from(LIMITS),
    chunk=st.integers(1, 7),
)
def test_text_and_logits_are_those_of_a_tier_that_writes_alone(
    ladder: Ladder,
    common: list[str],
    drafted: list[str],
    written: list[str],
    limits: Limits,
    chunk: int,
) -> None:
    def script(end: list[str]) -> Wanting:
        text = "".join(common) + "".join(end)
        return Wanting(ladder.vocab.tokenize(text, parse_special=False), ladder.vocab.eos_id)

    alone, verifying, speculating = script(written), script(written), script(written)
    expected = ladder.generate(2, alone, **limits)
    draft = ladder.generate(0, script(drafted), **limits)
    pieces: list[str] = []
    verified = ladder.verify(2, draft.proposal, verifying, on_text=pieces.append, **limits)
    assert text_of(verified) == text_of(expected)
    assert "".join(pieces) == expected.text
    assert verified.drafted == len(draft.proposal.draws)
    assert verified.accepted + verified.rewritten == len(alone.seen)
    speculated = ladder.speculate(2, speculating, script(drafted), chunk=chunk, **limits)
    assert text_of(speculated) == text_of(expected)
    for seen in (verifying.seen, speculating.seen):
        assert rounding(seen, alone.seen) < ROUNDING


@pytest.mark.parametrize("kv", ["handoff", "handoff:9", "exact"])
@pytest.mark.parametrize("how", ["verify", "speculate"])
def test_greedy_steps_are_the_tiers_own(make_ladder: LadderMaker, kv: str, how: str) -> None:
    ladder, alone = (make_ladder(kv=kv, reread=True) for _ in range(2))
    prompt, drafted, accepted = ladder.vocab.tokenize(PROMPT), 0, 0
    for high in (2, 1, 2, 2, 1):
        for each in (ladder, alone):
            each.prefill(prompt)
        if how == "verify":
            draft = ladder.generate(0, Sampler(), max_tokens=20)
            step = ladder.verify(high, draft.proposal, Sampler(), max_tokens=20)
        else:
            step = ladder.speculate(high, Sampler(), Sampler(), chunk=4, max_tokens=20)
        drafted, accepted = drafted + step.drafted, accepted + step.accepted
        script = Scripted(step.tokens)
        alone.generate(high, script, max_tokens=20)
        short = [row.max() - row[t] for row, t in zip(script.seen, step.tokens, strict=True)]
        assert max(short) < ROUNDING  # each token is the one that the tier alone likes best
        prompt = prompt + list(step.tokens) + ladder.vocab.tokenize(REPLY)
    assert 0 < accepted < drafted  # else the comparison would mean little


def test_a_draft_that_the_tier_would_have_written_costs_one_batch(ladder: Ladder) -> None:
    own = ladder.generate(2, Sampler(), max_tokens=ROWS)
    verified = ladder.verify(2, own.proposal, Sampler(), max_tokens=ROWS)
    assert text_of(verified) == text_of(own)
    assert (verified.drafted, verified.accepted, verified.rewritten) == (ROWS, ROWS, 0)
    # all but the last, and the prompt's last
    assert (verified.verify_tokens, verified.verify_batches) == (ROWS, 1)
    assert verified.decode_tokens == 0 < verified.verify_ms


def test_a_rejected_draft_is_written_on_token_by_token(ladder: Ladder) -> None:
    tokens = ladder.vocab.tokenize("look at the desk and the fridge and the mug")
    other = [*tokens[:3], tokens[0], *tokens[4:]]
    draft = ladder.generate(0, Scripted(tokens), max_tokens=len(tokens))
    verified = ladder.verify(2, draft.proposal, Scripted(other), max_tokens=len(tokens))
    assert list(verified.tokens) == other
    assert (verified.accepted, verified.rewritten) == (3, len(tokens) - 3)
    assert verified.decode_tokens == len(tokens) - 4  # the correction was chosen from the batch


def test_a_long_draft_is_read_in_several_batches(ladder: Ladder) -> None:
    tokens = ladder.vocab.tokenize("look " * 3 * ROWS)[: 2 * ROWS + 5]
    draft = ladder.generate(0, Scripted(tokens), max_tokens=len(tokens))
    verified = ladder.verify(2, draft.proposal, Scripted(tokens), max_tokens=len(tokens))
    assert list(verified.tokens) == tokens
    assert (verified.accepted, verified.verify_batches) == (len(tokens), 3)


def test_a_middle_tier_hands_its_text_on_as_the_next_ones_draft(make_ladder: LadderMaker) -> None:
    ladder = make_ladder()
    ladder.prefill(ladder.vocab.tokenize(PROMPT))
    alone = [ladder.generate(tier, Sampler(), max_tokens=16) for tier in (1, 2)]
    draft = ladder.generate(0, Sampler(), max_tokens=16)
    middle = ladder.verify(1, draft.proposal, Sampler(), max_tokens=16)
    high = ladder.verify(2, middle.proposal, Sampler(), max_tokens=16)
    assert [text_of(middle), text_of(high)] == list(map(text_of, alone))


def test_a_draft_up_to_the_contexts_end_is_verified(make_ladder: LadderMaker) -> None:
    ladder = make_ladder(kv="handoff:30")
    prompt = (ladder.vocab.tokenize(PROMPT) * 30)[: N_CTX - 12]
    ladder.prefill(prompt)
    draft = ladder.generate(0, Scripted([40] * 12), max_tokens=12)
    assert len(ladder.verify(2, draft.proposal, Scripted([40] * 12), max_tokens=12).tokens) == 12
    with pytest.raises(ContextOverflowError):
        ladder.verify(2, draft.proposal, Sampler(), max_tokens=13)


# -- the books ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kv", ["handoff", "handoff:9", "exact"])
def test_verifying_leaves_the_caches_as_writing_does(make_ladder: LadderMaker, kv: str) -> None:
    def caches(verifies: bool) -> list[tuple[list[int], int]]:
        ladder = make_ladder(kv=kv)
        ladder.prefill(ladder.vocab.tokenize(PROMPT))
        draft = ladder.generate(0, Sampler(), max_tokens=12)
        if verifies:
            ladder.verify(2, draft.proposal, Sampler(), max_tokens=12)
        else:
            ladder.generate(2, Sampler(), max_tokens=12)
        return [(tier.held, tier.context.n_past) for tier in ladder.tiers]

    assert caches(True) == caches(False)


class Interrupting(Scripted):
    """Ctrl-C at the choice after the script."""

    def sample(
        self,
        logits: NDArray[np.float32],
        allowed: NDArray[np.intp] | None = None,
        proposed: Draw | None = None,
    ) -> int:
        if not self._tokens:
            raise KeyboardInterrupt
        return super().sample(logits, allowed, proposed)


@pytest.mark.parametrize("kv", ["handoff", "handoff:9", "exact"])
@pytest.mark.parametrize("taken", [0, 3, 9])
def test_an_interrupted_verification_leaves_the_ladder_usable(
    make_ladder: LadderMaker, kv: str, taken: int
) -> None:
    ladder = make_ladder(kv=kv, reread=True)
    prompt = ladder.vocab.tokenize(PROMPT)
    ladder.prefill(prompt)
    tokens = ladder.vocab.tokenize("look at the desk and the fridge and the mug")[:6]
    draft = ladder.generate(0, Scripted(tokens), max_tokens=6).proposal
    written = [*tokens[:5], *ladder.vocab.tokenize("and so on and on")][:taken]
    with pytest.raises(KeyboardInterrupt):
        ladder.verify(2, draft, Interrupting(written), max_tokens=20)
    with pytest.raises(KeyboardInterrupt):
        ladder.speculate(2, Interrupting(written), Scripted(tokens * 9), chunk=2, max_tokens=20)
    for tier in ladder.tiers:
        assert tier.context.n_past == len(tier.held)
    longer = prompt + ladder.vocab.tokenize(REPLY)
    fresh = make_ladder(kv=kv, reread=True)
    fresh.prefill(prompt)
    texts = []
    for each in (ladder, fresh):
        each.prefill(longer)
        texts.append(each.generate(2, Sampler(), max_tokens=12).tokens)
    assert texts[0] == texts[1]


# -- sampling -------------------------------------------------------------------------------------


def chi_square(counts: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> float:
    """Chi-square over its degrees of freedom, rare outcomes as one: about 1 where they agree."""
    total, terms, rest = sum(counts.values()), list[tuple[int, float]](), [0, 0.0]
    for outcome, p in expected.items():
        if total * p >= 5:
            terms.append((counts[outcome], total * p))
        else:
            rest = [rest[0] + counts[outcome], rest[1] + total * p]
    terms += [(int(rest[0]), rest[1])] if rest[1] > 0 else []
    assert not set(counts) - set(expected)
    return sum((seen - e) ** 2 / e for seen, e in terms) / (len(terms) - 1)


def test_a_draft_changes_no_distribution_and_is_accepted_as_often_as_theory_says() -> None:
    rng = np.random.default_rng(5)
    p_logits, q_logits = (rng.normal(0, 1.5, 8).astype(np.float32) for _ in range(2))
    sampler, counts, accepted, n = Sampler(1.3, top_p=0.95, seed=1), Counter[int](), 0, 6_000
    drafter = Sampler(1.3, top_p=0.95, seed=2)
    for _ in range(n):
        token = drafter.sample(q_logits)
        written = sampler.sample(p_logits, None, Draw(token, drafter.source))
        counts[written] += 1
        accepted += written == token
    p, q = sampler.source, drafter.source
    assert p is not None
    assert q is not None
    assert set(p.ids) != set(q.ids)  # each cut off something else
    theory = sum(min(p.of(token), q.of(token)) for token in range(8))
    assert abs(accepted / n - theory) < 4 * (theory * (1 - theory) / n) ** 0.5
    seen = Counter[tuple[int, ...]]({(token,): count for token, count in counts.items()})
    assert chi_square(seen, {(int(t),): p.of(int(t)) for t in p.ids}) < 3
    assert chi_square(seen, {(token,): q.of(token) for token in range(8)}) > 30


@pytest.mark.parametrize(
    "how", ["verify", "speculate", pytest.param("middle", marks=pytest.mark.slow)]
)
def test_two_tokens_have_the_high_tiers_own_distribution(ladder: Ladder, how: str) -> None:
    settings: dict[str, Any] = {"temperature": 0.8, "top_p": 0.35}
    expected = own_distribution(ladder, Sampler(**settings))
    assert 6 < len(expected) < 200
    sampler, drafter = Sampler(seed=3, **settings), Sampler(seed=3, **settings)
    counts = Counter[tuple[int, ...]]()
    for step in range(400):
        sampler.at_step(step, stream=1)
        drafter.at_step(step)
        if how == "speculate":
            written = ladder.speculate(2, sampler, drafter, chunk=2, max_tokens=2)
        else:
            draft = ladder.generate(0, drafter, max_tokens=2, keep=True).proposal
            if how == "middle":
                drafter.at_step(step, stream=2)
                draft = ladder.verify(1, draft, drafter, max_tokens=2, keep=True).proposal
            written = ladder.verify(2, draft, sampler, max_tokens=2)
        counts[written.tokens] += 1
    assert chi_square(counts, expected) < 2


def own_distribution(ladder: Ladder, sampler: Sampler) -> dict[tuple[int, ...], float]:
    """Of the high tier's first two tokens after the prompt."""

    def next_of(tokens: list[int]) -> Distribution:
        script = Scripted([*tokens, 0])
        ladder.generate(2, script, max_tokens=len(tokens) + 1)
        sampler.sample(script.seen[-1])
        assert sampler.source is not None
        return sampler.source

    first, joint = next_of([]), dict[tuple[int, ...], float]()
    for token in map(int, first.ids):
        second = next_of([token])
        joint |= {(token, int(t)): first.of(token) * second.of(int(t)) for t in second.ids}
    return joint


def test_sampled_verification_is_the_same_for_the_same_seed(ladder: Ladder) -> None:
    def written(seed: int) -> tuple[int, ...]:
        drafter, sampler = Sampler(1.0, seed=seed), Sampler(1.0, seed=seed)
        draft = ladder.generate(0, drafter, max_tokens=12, keep=True)
        sampler.at_step(0, stream=1)
        return ladder.verify(2, draft.proposal, sampler, max_tokens=12).tokens

    assert written(1) == written(1) != written(2)
