"""Openings kept in the cache and on disk: the same bits as computed ones, and never trusted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_router.engine import openings
from edge_router.engine.ladder import Ladder, TierSpec
from edge_router.engine.openings import (
    LEAST_TOKENS,
    LIMIT,
    OpeningStore,
    any_store,
    usual_store,
    write_pieces,
)
from edge_router.engine.sampling import Sampler
from edge_router.engine.trust import gguf_sha256
from edge_router.errors import UserError
from tests.engine_fixtures import N_CTX, LadderMaker, make_ladder, tiny_paths

__all__ = ["make_ladder", "tiny_paths"]

RULES = "You play a household game by giving one command a turn. " * 3  # 168 bytes, so tokens
GAMES = ("You see a fridge 1.\n> ", "You are in a room. You see a desk 2, and a bed 1.\n> ")
ROOM = 10**9
GREEDY = Sampler()


@pytest.fixture
def store(tmp_path: Path) -> OpeningStore:
    return OpeningStore(tmp_path / "openings", ROOM)


def prompt(ladder: Ladder, game: int) -> tuple[list[int], int]:
    """The tokens of a game's prompt, and how many of them are its opening."""
    rules = ladder.vocab.tokenize(RULES)
    return rules + ladder.vocab.tokenize(GAMES[game]), len(rules)


def start(ladder: Ladder, game: int = 0) -> np.ndarray[tuple[int], np.dtype]:
    """Begin an episode; the logits of its first prompt."""
    tokens, opening = prompt(ladder, game)
    ladder.clear(tokens[:opening])
    ladder.prefill(tokens, opening=opening)
    return ladder.logits().copy()


def files(store: OpeningStore) -> list[Path]:
    return sorted(store.folder.glob("*.kv"))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_loaded_opening_has_the_bits_of_a_computed_one(
    make_ladder: LadderMaker, store: OpeningStore, threads: int
) -> None:
    computed = make_ladder("q4_k_m", openings=store)
    without = make_ladder("q4_k_m")
    loaded = make_ladder("q4_k_m", openings=store, n_threads=threads)
    tokens, opening = prompt(computed, 0)
    first = computed.prefill(tokens, opening=opening)
    without.prefill(tokens, opening=opening)
    second = loaded.prefill(tokens, opening=opening)
    assert (first.new_tokens, first.load_tokens) == (len(tokens), 0)
    assert (second.new_tokens, second.load_tokens) == (len(tokens) - opening, opening)
    assert first.load_ms > 0 < second.load_ms
    states = [ladder.tiers[0].context.state() for ladder in (computed, without, loaded)]
    assert states[0] == states[1] == states[2]
    assert (computed.logits() == without.logits()).all()
    assert (computed.logits() == loaded.logits()).all()
    texts = [x.generate(0, GREEDY, max_tokens=12).tokens for x in (computed, without, loaded)]
    assert texts[0] == texts[1] == texts[2]


def test_an_opening_that_is_too_short_changes_no_batch(
    make_ladder: LadderMaker, store: OpeningStore
) -> None:
    ladder, plain = make_ladder("q4_k_m", openings=store), make_ladder("q4_k_m")
    tokens, _ = prompt(ladder, 0)
    ladder.prefill(tokens, opening=LEAST_TOKENS - 1)
    plain.prefill(tokens)
    assert ladder.tiers[0].context.state() == plain.tiers[0].context.state()
    assert not files(store)


def test_the_second_game_of_a_process_reads_only_what_is_new(make_ladder: LadderMaker) -> None:
    ladder = make_ladder()
    for game in (0, 1):
        tokens, opening = prompt(ladder, game)
        ladder.clear(tokens[:opening])
        read = ladder.prefill(tokens, opening=opening)
        new = [ladder.generate(tier, GREEDY, max_tokens=4).handoff_tokens for tier in (2, 1)]
        assert read.kept_tokens == game * opening
        assert read.new_tokens == len(tokens) - game * opening
        assert new == [len(tokens) - 1 - game * opening] * 2


def test_in_exact_mode_every_tier_keeps_an_opening_of_its_own(
    make_ladder: LadderMaker, store: OpeningStore
) -> None:
    ladder, alone = make_ladder(kv="exact", openings=store), make_ladder("q8_0")
    for game in (0, 1):
        tokens, opening = prompt(ladder, game)
        start(ladder, game)
        start(alone, game)
        high = ladder.generate(2, GREEDY, max_tokens=8)
        assert high.tokens == alone.generate(0, GREEDY, max_tokens=8).tokens
        assert high.catchup_tokens == len(tokens) - game * opening
    assert len(files(store)) == 2  # the low tier's and the high tier's
    again = make_ladder(kv="exact", openings=store)
    start(again, 1)
    assert again.generate(2, GREEDY, max_tokens=8).load_tokens == prompt(again, 1)[1]
    assert again.tiers[2].context.state() == alone.tiers[0].context.state()


@pytest.mark.parametrize("kv", ["handoff", "exact"])
def test_a_tier_that_verifies_begins_with_the_same_opening(
    make_ladder: LadderMaker, store: OpeningStore, kv: str
) -> None:
    """It writes what it would have written alone, and its own opening is loaded once."""
    for run in (0, 1):
        ladder = make_ladder("q4_k_m", "q8_0", kv=kv, openings=store)
        start(ladder)
        written = ladder.generate(1, GREEDY, max_tokens=8)
        start(ladder, 1)
        ladder.tiers[1].truncate(0)
        opening = prompt(ladder, 1)[1]
        draft = ladder.generate(0, GREEDY, max_tokens=8).proposal
        verified = ladder.verify(1, draft, GREEDY, max_tokens=8)
        assert verified.load_tokens == (opening if kv == "exact" else 0)
        assert verified.catchup_tokens == 0
        assert written.load_tokens == (opening if kv == "exact" and run else 0)
        start(ladder, 1)
        assert ladder.generate(1, GREEDY, max_tokens=8).tokens == verified.tokens


@pytest.mark.parametrize("kv", ["handoff", "handoff:7", "exact"])
def test_an_episode_does_not_depend_on_what_was_played_before(
    make_ladder: LadderMaker, kv: str
) -> None:
    def episode(ladder: Ladder, game: int) -> list[bytes]:
        logits = start(ladder, game).tobytes()
        ladder.generate(2, GREEDY, max_tokens=4)
        return [logits, *(tier.context.state() for tier in ladder.tiers[::2])]

    used = make_ladder(kv=kv)
    start(used, 0)
    used.generate(2, GREEDY, max_tokens=8)
    other = used.vocab.tokenize("Other rules altogether, for another kind of game. " * 2)
    used.clear(other)
    used.prefill([*other, 65], opening=len(other))
    used.generate(2, GREEDY, max_tokens=8)
    assert episode(used, 0) == episode(make_ladder(kv=kv), 0)
    assert episode(used, 1) == episode(make_ladder(kv=kv), 1)


def test_an_opening_within_a_longer_one_is_computed_anew_for_an_episode(
    make_ladder: LadderMaker,
) -> None:
    ladder, fresh = make_ladder("q4_k_m"), make_ladder("q4_k_m")
    tokens, opening = prompt(ladder, 0)
    ladder.prefill(tokens, opening=opening)
    for used in (ladder, fresh):
        used.clear(tokens[: opening - 20])
        used.prefill(tokens, opening=opening - 20)
    assert ladder.tiers[0].context.state() == fresh.tiers[0].context.state()


def test_a_conversation_keeps_its_cache_though_the_opening_was_no_batch(
    make_ladder: LadderMaker,
) -> None:
    ladder = make_ladder("q4_k_m")
    tokens, opening = prompt(ladder, 0)
    ladder.prefill(tokens)
    assert ladder.prefill([*tokens, 65], opening=opening).new_tokens == 1


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "another bit in the KV": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "empty": lambda data: b"",
    "not ours": lambda data: b"GGUF" + data[4:],
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_computed_again_and_replaced(
    make_ladder: LadderMaker, store: OpeningStore, how: str
) -> None:
    expected = start(make_ladder("q4_k_m", openings=store))
    (file,) = files(store)
    whole = file.read_bytes()
    file.write_bytes(DAMAGE[how](whole))
    ladder = make_ladder("q4_k_m", openings=store)
    tokens, opening = prompt(ladder, 0)
    assert ladder.prefill(tokens, opening=opening).load_tokens == 0
    assert (ladder.logits() == expected).all()
    assert file.read_bytes() == whole


def test_a_pipe_is_not_waited_for(make_ladder: LadderMaker, store: OpeningStore) -> None:
    expected = start(make_ladder("q4_k_m", openings=store))
    (file,) = files(store)
    file.unlink()
    os.mkfifo(file)
    assert (start(make_ladder("q4_k_m", openings=store)) == expected).all()
    assert file.is_file()


def test_what_llama_cpp_refuses_is_computed(make_ladder: LadderMaker, store: OpeningStore) -> None:
    """Checksums that fit do not make KV of it: a file forged with care is refused as well."""
    ladder = make_ladder("q4_k_m", openings=store)
    tokens, opening = prompt(ladder, 0)
    key = openings._key(ladder.tiers[0], tokens[:opening])
    store.folder.mkdir()
    spans = openings._spans(tokens[:opening])
    write_pieces(store._path(key), key, len(spans), [b"\xff" * 512] * len(spans))
    assert ladder.prefill(tokens, opening=opening).load_tokens == 0
    assert (ladder.logits() == start(make_ladder("q4_k_m"))).all()


def test_other_weights_contexts_and_builds_have_files_of_their_own(
    make_ladder: LadderMaker, store: OpeningStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in ({}, {"n_ctx": N_CTX // 2}):
        start(make_ladder("q4_k_m", openings=store, **options))
    start(make_ladder("q8_0", openings=store))
    assert len(files(store)) == 3
    monkeypatch.setattr(openings, "library_line", lambda: "llama.cpp of another day")
    ladder = make_ladder("q8_0", openings=store)
    tokens, opening = prompt(ladder, 0)
    assert ladder.prefill(tokens, opening=opening).load_tokens == 0
    assert len(files(store)) == 4


def test_a_changed_gguf_does_not_get_the_kv_of_the_old_one(
    tiny_paths: dict[str, Path], tmp_path: Path, store: OpeningStore
) -> None:
    path = tmp_path / "model.gguf"
    logits = []
    for source in ("q4_k_m", "q8_0"):
        path.write_bytes(tiny_paths[source].read_bytes())
        with Ladder.load([TierSpec("m", path)], n_ctx=N_CTX, n_threads=1, openings=store) as ladder:
            logits.append(start(ladder))
    assert len(files(store)) == 2
    assert (logits[0] != logits[1]).any()
    assert gguf_sha256(path) == gguf_sha256(tiny_paths["q8_0"])


def test_the_least_recently_used_leave_first(make_ladder: LadderMaker, store: OpeningStore) -> None:
    ladder = make_ladder("q4_k_m", openings=store)
    size = 0

    def keep(text: str) -> bool:
        """Whether it had to be computed."""
        tokens = ladder.vocab.tokenize(f"The rules of game {text}. " * 8)
        ladder.clear()
        return ladder.prefill([*tokens, 65], opening=len(tokens)).load_tokens == 0

    for age, text in enumerate("ab"):
        assert keep(text)
        size = max(size, files(store)[0].stat().st_size)
        for file in files(store):
            os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 100 + age))
    store.limit = int(2.5 * size)
    assert not keep("a")  # used now, so b is the oldest
    assert keep("c")
    assert store.kept().size_bytes <= store.limit
    assert not keep("a")
    assert not keep("c")
    assert keep("b")


def test_an_opening_larger_than_the_store_is_not_written(
    make_ladder: LadderMaker, store: OpeningStore
) -> None:
    store.limit = 1000
    start(make_ladder("q4_k_m", openings=store))
    assert not store.folder.exists()
    assert not store.take_notes()


def test_a_folder_that_cannot_be_written_is_told_once_and_the_run_goes_on(
    make_ladder: LadderMaker, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    store = OpeningStore(tmp_path / "file" / "openings", ROOM)
    ladder = make_ladder("q4_k_m", openings=store)
    assert (start(ladder) == start(make_ladder("q4_k_m"))).all()
    start(ladder)
    ladder.clear()
    start(ladder)
    (note,) = ladder.take_notes()
    assert "cannot be kept" in note
    assert str(tmp_path) in note
    assert not ladder.take_notes()


def test_what_a_killed_process_left_is_removed_in_time(
    make_ladder: LadderMaker, store: OpeningStore
) -> None:
    store.folder.mkdir()
    old, new = (store.folder / f".edge-router.{n}.kv.{n}.partial" for n in "12")
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (0, 0))
    start(make_ladder("q4_k_m", openings=store))
    assert not old.exists()
    assert new.exists()  # somebody may be writing it
    store.clear()
    assert not list(store.folder.iterdir())


def test_clear_says_what_was_there(make_ladder: LadderMaker, store: OpeningStore) -> None:
    assert store.clear().files == 0
    start(make_ladder("q4_k_m", openings=store))
    size = files(store)[0].stat().st_size
    assert (store.clear().files, store.kept().files) == (1, 0)
    assert size > 0


@pytest.mark.parametrize(("said", "limit"), [("2", 2 * 10**9), ("0.5", 5 * 10**8), ("0", 0)])
def test_the_limit_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, limit: int
) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path))
    monkeypatch.setenv(LIMIT, said)
    found = any_store()
    assert found is not None
    assert found.limit == limit
    assert (usual_store() is None) == (limit == 0)


@pytest.mark.parametrize("said", ["much", "-1", "nan", "inf", "1e9"])
def test_a_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(LIMIT, said)
    with pytest.raises(UserError, match="gigabytes"):
        usual_store()


def test_without_a_limit_of_the_users_a_small_disk_is_not_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path))
    monkeypatch.delenv(LIMIT, raising=False)
    monkeypatch.setattr(openings, "free_bytes", lambda folder: 10**9)
    found = usual_store()
    assert found is not None
    assert found.limit == 5 * 10**7
    monkeypatch.setattr(openings, "free_bytes", lambda folder: 10**12)
    again = usual_store()
    assert again is not None
    assert again.limit == 2 * 10**9
