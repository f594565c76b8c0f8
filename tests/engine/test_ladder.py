"""A ladder of real tiers: handoff, exact mode, what a step depends on, and refusing strangers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.engine.ladder import ContextOverflowError, KvMode, Ladder, TierSpec
from edge_router.engine.llama import LlamaContext, copy_all
from edge_router.engine.sampling import Sampler
from edge_router.errors import UserError
from tests.engine_fixtures import (
    N_CTX,
    LadderMaker,
    Scripted,
    make_ladder,
    tiny_llama_paths,
    tiny_paths,
)
from tests.tiny_gguf import TIERS, TINY_QWEN3, write_tiny

__all__ = ["make_ladder", "tiny_llama_paths", "tiny_paths"]

OPENING = "You are in the middle of a room. You see a fridge 1, and a countertop 2.\n> "
REPLY = "\nOn the countertop 2, you see a mug 1.\n> "
ACTION = "plan: countertop 2 countertop 1 fridge 1 cabinet 4 shelf 3\n> go to countertop 2"
GREEDY = Sampler()


def play(ladder: Ladder, tiers: list[int], *, max_tokens: int = 12) -> list[tuple[int, ...]]:
    """Greedy steps by the given tiers; the tokens of each."""
    prompt = ladder.vocab.tokenize(OPENING)
    steps = []
    for tier in tiers:
        ladder.prefill(prompt)
        steps.append(ladder.generate(tier, GREEDY, max_tokens=max_tokens).tokens)
        prompt = prompt + list(steps[-1]) + ladder.vocab.tokenize(REPLY)
    return steps


def next_logits(ladder: Ladder, writer: int, reader: int) -> np.ndarray[tuple[int], np.dtype]:
    """`writer` writes ACTION in two steps; `reader`'s logits at the start of the third."""
    action, reply = ladder.vocab.tokenize(ACTION), ladder.vocab.tokenize(REPLY)
    prompt = ladder.vocab.tokenize(OPENING)
    for _ in range(2):
        ladder.prefill(prompt)
        ladder.generate(writer, Scripted(action), max_tokens=len(action))
        prompt = prompt + action + reply
    ladder.prefill(prompt)
    script = Scripted(action)
    ladder.generate(reader, script, max_tokens=1)
    return script.seen[0]


@pytest.mark.parametrize("kv", ["handoff", "handoff:7"])
def test_span_handoff_equals_full_sequence_handoff_bit_for_bit(
    make_ladder: LadderMaker, kv: str
) -> None:
    ladder = make_ladder(kv=kv)
    prompt = ladder.vocab.tokenize(OPENING)
    for tier in (2, 0, 1, 2, 2, 0, 2):
        ladder.prefill(prompt)
        script = Scripted(ladder.vocab.tokenize(ACTION))
        ladder.generate(tier, script, max_tokens=1)
        if tier:
            full = LlamaContext(ladder.tiers[tier].model, n_ctx=N_CTX, n_threads=1)
            ladder.prefill(prompt)
            copy_all(ladder.tiers[0].context, full)
            full.truncate(len(prompt) - ladder.kv.own)
            assert full.state() == ladder.tiers[tier].context.state()
            full.decode(prompt[full.n_past :], full.n_past)
            assert (full.logits() == script.seen[0]).all()
            full.close()
        prompt = prompt + ladder.vocab.tokenize(ACTION + REPLY)


@pytest.mark.parametrize("name", TIERS)
def test_exact_mode_equals_the_tier_alone_token_for_token(
    make_ladder: LadderMaker, name: str
) -> None:
    index = TIERS.index(name)
    ladder, alone = make_ladder(kv="exact"), make_ladder(name)
    assert play(ladder, [index] * 4) == play(alone, [0] * 4)
    assert ladder.tiers[index].context.state() == alone.tiers[0].context.state()


def test_the_tiers_differ_so_that_the_comparisons_mean_something(make_ladder: LadderMaker) -> None:
    steps = [play(make_ladder(name), [0] * 4) for name in TIERS]
    assert steps[0] != steps[1] != steps[2] != steps[0]
    low_kv, own_kv = play(make_ladder(kv="handoff"), [2]), play(make_ladder(kv="exact"), [2])
    assert low_kv != own_kv


def test_greedy_play_is_the_same_every_time(make_ladder: LadderMaker) -> None:
    tiers = [0, 2, 1, 2, 0]
    assert play(make_ladder(), tiers) == play(make_ladder(), tiers)


def test_a_used_ladder_plays_like_a_fresh_one_after_clear(make_ladder: LadderMaker) -> None:
    ladder = make_ladder()
    first = play(ladder, [2, 0, 1])
    ladder.clear()
    assert play(ladder, [2, 0, 1]) == first


def test_seeded_sampling_is_reproducible(make_ladder: LadderMaker) -> None:
    def steps(seed: int) -> list[tuple[int, ...]]:
        ladder, sampler = make_ladder("q8_0"), Sampler(1.0, top_p=0.95, min_p=0.01, seed=seed)
        ladder.prefill(ladder.vocab.tokenize(OPENING))
        return [ladder.generate(0, sampler, max_tokens=10).tokens for _ in range(2)]

    assert steps(1) == steps(1)
    assert steps(1) != steps(2)


@pytest.mark.parametrize("kv", ["handoff", "handoff:5"])
def test_a_step_depends_on_the_text_and_not_on_who_wrote_it(
    make_ladder: LadderMaker, kv: str
) -> None:
    by_low, by_high = (next_logits(make_ladder(kv=kv, reread=True), w, 2) for w in (0, 2))
    assert (by_low == by_high).all()


def test_without_reread_who_wrote_it_shows_as_rounding_only(make_ladder: LadderMaker) -> None:
    # The low tier decoded its own step token by token and reads another tier's as a
    # batch; kernels may round that differently. Measured at a standard deviation of the
    # logits of 2: nothing on one thread, with flash attention at most 0.09.
    by_low, by_high = (next_logits(make_ladder(), w, 2) for w in (0, 2))
    assert np.abs(by_low - by_high).max() < 0.3 < by_low.std()


def test_only_the_new_part_of_a_prompt_is_computed(make_ladder: LadderMaker) -> None:
    ladder = make_ladder()
    prompt = ladder.vocab.tokenize(OPENING)
    assert ladder.prefill(prompt).new_tokens == len(prompt)
    low = ladder.generate(0, GREEDY, max_tokens=8)
    assert (low.handoff_tokens, low.catchup_tokens, low.decode_tokens) == (0, 0, 7)
    prompt += [*low.tokens, *ladder.vocab.tokenize(REPLY)]
    ingest = ladder.prefill(prompt)
    assert ingest.kept_tokens == len(prompt) - ingest.new_tokens
    assert ingest.new_tokens == len(ladder.vocab.tokenize(REPLY)) + 1  # the last was not decoded
    high = ladder.generate(2, GREEDY, max_tokens=8)
    assert (high.handoff_tokens, high.catchup_tokens) == (len(prompt) - 1, 1)
    longer = [*prompt, *high.tokens, *ladder.vocab.tokenize(REPLY)]
    assert ladder.prefill(longer).kept_tokens == len(prompt)
    again = ladder.generate(2, GREEDY, max_tokens=8)
    assert again.handoff_tokens == len(longer) - len(prompt)
    assert min(high.handoff_ms, high.catchup_ms, high.decode_ms, ingest.ms) > 0


def test_handoff_n_lets_the_tier_compute_the_newest_tokens(make_ladder: LadderMaker) -> None:
    ladder = make_ladder(kv="handoff:9")
    prompt = ladder.vocab.tokenize(OPENING)
    ladder.prefill(prompt)
    step = ladder.generate(1, GREEDY, max_tokens=4)
    assert (step.handoff_tokens, step.catchup_tokens) == (len(prompt) - 9, 9)
    ladder.prefill(prompt[:5])
    short = ladder.generate(2, GREEDY, max_tokens=4)
    assert (short.handoff_tokens, short.catchup_tokens) == (0, 5)


def test_dropping_turns_cuts_every_copy_of_them(make_ladder: LadderMaker) -> None:
    ladder = make_ladder(reread=True)
    opening = ladder.vocab.tokenize(OPENING)
    turns = [ladder.vocab.tokenize(f"{ACTION}{REPLY}{i}") for i in range(4)]
    ladder.prefill([*opening, *turns[0], *turns[1], *turns[2], *turns[3]])
    ladder.generate(2, GREEDY, max_tokens=4)
    shorter = opening + turns[2] + turns[3]
    ingest = ladder.prefill(shorter)
    assert len(opening) <= ingest.kept_tokens < len(shorter)
    after = ladder.generate(2, GREEDY, max_tokens=12)
    fresh = make_ladder(reread=True)
    fresh.prefill(shorter[: ingest.kept_tokens])  # the same batches as above
    fresh.prefill(shorter)
    assert fresh.generate(2, GREEDY, max_tokens=12).tokens == after.tokens
    assert fresh.tiers[2].context.n_past == ladder.tiers[2].context.n_past == len(shorter) - 1


def test_a_copy_of_what_the_low_tier_computed_again_is_renewed(
    make_ladder: LadderMaker,
) -> None:
    ladder = make_ladder()
    prompt = ladder.vocab.tokenize(OPENING + ACTION + REPLY + ACTION)
    ladder.prefill(prompt)
    ladder.generate(2, GREEDY, max_tokens=4)
    old = ladder.tiers[2].context.state()
    ladder.prefill(prompt[:10])
    for token in range(11, len(prompt) + 1):  # one by one rounds differently
        ladder.prefill(prompt[:token])
    ladder.generate(2, GREEDY, max_tokens=4)
    base, copy = ladder.tiers[0].context, ladder.tiers[2].context
    base.truncate(len(prompt) - 1)
    assert copy.state() == base.state() != old


def test_several_tiers_may_continue_the_same_prompt(make_ladder: LadderMaker) -> None:
    ladder = make_ladder()
    ladder.prefill(ladder.vocab.tokenize(OPENING))
    expected = ladder.logits().copy()
    texts = {t: ladder.generate(t, GREEDY, max_tokens=12).tokens for t in (1, 2)}
    assert (ladder.logits() == expected).all()
    texts[0] = ladder.generate(0, GREEDY, max_tokens=12).tokens
    for tier in (2, 0, 1, 0):
        assert ladder.generate(tier, GREEDY, max_tokens=12).tokens == texts[tier]


def test_logits_are_the_prompts_and_only_until_the_low_tier_writes(
    make_ladder: LadderMaker,
) -> None:
    ladder = make_ladder()
    with pytest.raises(ValueError, match="no prompt"):
        ladder.logits()
    with pytest.raises(ValueError, match="call prefill first"):
        ladder.generate(0, GREEDY, max_tokens=1)
    ladder.prefill(ladder.vocab.tokenize(OPENING))
    best = int(ladder.logits().argmax())
    assert ladder.generate(0, GREEDY, max_tokens=2).tokens[0] == best
    with pytest.raises(ValueError, match="no prompt"):
        ladder.logits()


def test_a_full_context_is_reported_before_anything_is_lost(make_ladder: LadderMaker) -> None:
    ladder = make_ladder()
    prompt = ladder.vocab.tokenize(OPENING)
    ladder.prefill(prompt)
    expected = ladder.logits().copy()
    with pytest.raises(ContextOverflowError) as caught:
        ladder.prefill([1] * (N_CTX + 1))
    assert (caught.value.needed, caught.value.n_ctx) == (N_CTX + 1, N_CTX)
    for tier in (0, 2):
        with pytest.raises(ContextOverflowError):
            ladder.generate(tier, GREEDY, max_tokens=N_CTX - len(prompt) + 1)
    assert (ladder.logits() == expected).all()
    room = N_CTX - len(prompt)
    assert len(ladder.generate(2, GREEDY, max_tokens=room).tokens) <= room


@pytest.mark.parametrize("tier", [0, 2])
def test_an_interruption_leaves_the_ladder_usable(make_ladder: LadderMaker, tier: int) -> None:
    def interrupt(_text: str) -> None:
        raise KeyboardInterrupt

    ladder = make_ladder()
    prompt = ladder.vocab.tokenize(OPENING)
    ladder.prefill(prompt)
    expected = ladder.generate(tier, GREEDY, max_tokens=12).tokens
    with pytest.raises(KeyboardInterrupt):
        ladder.generate(tier, GREEDY, max_tokens=12, on_text=interrupt)
    assert ladder.generate(tier, GREEDY, max_tokens=12).tokens == expected
    assert ladder.prefill(prompt + ladder.vocab.tokenize(REPLY)).kept_tokens >= len(prompt)


def test_builds_of_different_models_are_refused_by_their_difference(
    tiny_paths: dict[str, Path], tiny_llama_paths: dict[str, Path], tmp_path: Path
) -> None:
    others = {
        "architectures differ .qwen3 and llama.": tiny_llama_paths["q8_0"],
        "qwen3.block_count is 2 in one and 3 in the other": write_tiny(
            tmp_path / "a", replace(TINY_QWEN3, layers=3)
        ),
        "qwen3.rope.freq_base is 10000.0 in one and 20000.0": write_tiny(
            tmp_path / "b", replace(TINY_QWEN3, rope_base=20_000.0)
        ),
        "tokenizers differ .tokenizer.ggml.": write_tiny(
            tmp_path / "c", replace(TINY_QWEN3, vocabulary=1023)
        ),
        "different checkpoints .tensor output_norm.weight.": write_tiny(tmp_path / "d", seed=1),
    }
    for difference, path in others.items():
        specs = [TierSpec("low", tiny_paths["q4_k_m"]), TierSpec("high", path)]
        with pytest.raises(UserError, match=difference):
            Ladder.load(specs, n_ctx=N_CTX)


def test_a_chat_template_of_its_own_does_not_make_another_model(
    tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    plain = write_tiny(tmp_path, replace(TINY_QWEN3, template=None))
    specs = [TierSpec("low", tiny_paths["q4_k_m"]), TierSpec("high", plain)]
    with Ladder.load(specs, n_ctx=N_CTX, n_threads=1) as ladder:
        assert ladder.names == ("low", "high")


def test_bad_settings_are_reported_in_a_sentence(tiny_paths: dict[str, Path]) -> None:
    low = TierSpec("low", tiny_paths["q4_k_m"])
    cases: list[tuple[list[TierSpec], dict[str, Any], str]] = [
        ([], {}, "at least one tier"),
        ([low, low], {}, "two tiers are called 'low'"),
        ([low], {"n_ctx": 4096}, "trained for 1 to 2048"),
        ([low, TierSpec("high", Path("nowhere.gguf"))], {}, "nowhere.gguf does not exist"),
        ([low], {"kv": "handoff:0"}, "unknown KV mode 'handoff:0'"),
    ]
    for specs, options, part in cases:
        with pytest.raises(UserError, match=part):
            Ladder.load(specs, **{"n_ctx": N_CTX, **options})


@pytest.mark.parametrize("text", ["handoff", "handoff:12", "exact"])
def test_a_kv_mode_reads_back_what_it_prints(text: str) -> None:
    assert str(KvMode.parse(text)) == text


@pytest.mark.parametrize("text", ["", "copy", "handoff:", "handoff:-1", "handoff:x", "exact:2"])
def test_an_unknown_kv_mode_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="unknown KV mode"):
        KvMode.parse(text)


def test_a_tier_carries_the_fingerprint_of_its_file(
    make_ladder: LadderMaker, tiny_paths: dict[str, Path]
) -> None:
    tier = make_ladder("q8_0").tiers[0]
    assert len(tier.fingerprint) == 64
    assert tier.size_bytes == tiny_paths["q8_0"].stat().st_size


def test_a_tier_tells_what_its_cache_takes(make_ladder: LadderMaker) -> None:
    tier = make_ladder("q8_0").tiers[0]
    tier.decode([5] * N_CTX)
    held = len(tier.context.state())  # llama.cpp's own figure: the numbers, and some bookkeeping
    numbers = tier.kv_bytes * N_CTX / tier.context.cells
    assert numbers <= held < numbers * 1.05 + 1000
