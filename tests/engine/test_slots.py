"""Conversations take turns on one cache, and find what they had read, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edge_router.engine.ladder import Ladder
from edge_router.engine.sampling import Sampler
from edge_router.engine.slots import Slots
from tests.engine_fixtures import LadderMaker, make_ladder, tiny_paths

__all__ = ["make_ladder", "tiny_paths"]

SHARED = list(range(50, 130))
TALKS = [[*SHARED, *range(start, start + 90)] for start in (10, 60, 110)]


def read(ladder: Ladder, slots: Slots, talk: Sequence[int], owner: object) -> int:
    """Tokens that had to be computed."""
    slots.make_way(talk, owner)
    return ladder.prefill(talk).new_tokens


@pytest.mark.parametrize("kv", ["handoff", "exact"])
def test_each_finds_what_it_had_read_and_the_same_bits(make_ladder: LadderMaker, kv: str) -> None:
    ladder = make_ladder("q3_k_m", "q8_0", kv=kv)
    slots, kept = Slots(ladder, 3), []
    for owner, talk in enumerate(TALKS):
        read(ladder, slots, talk, owner)
        ladder.generate(1, Sampler(), max_tokens=3)
        kept.append([tier.context.export_span(0, 150) for tier in ladder.tiers])
    for owner, talk in enumerate(TALKS):
        longer = [*talk, 7, 8, 9]
        assert read(ladder, slots, longer, owner) <= 3 + 3
        low = ladder.tiers[0].context
        assert low.export_span(0, 150) == kept[owner][0]
        catchup = ladder.generate(1, Sampler(), max_tokens=3)
        assert ladder.tiers[1].context.export_span(0, 150) == kept[owner][1]
        assert catchup.catchup_tokens <= 6, "in exact mode its own KV came back as well"


def test_of_too_many_the_oldest_is_forgotten(make_ladder: LadderMaker) -> None:
    ladder = make_ladder("q3_k_m", "q8_0")
    slots = Slots(ladder, 2)
    for owner, talk in enumerate(TALKS):
        read(ladder, slots, talk, owner)
    assert read(ladder, slots, [*TALKS[1], 7], 1) == 1
    assert read(ladder, slots, [*TALKS[2], 7], 2) == 1
    assert read(ladder, slots, [*TALKS[0], 7], 0) == 91, "but what all begin with was there"


def test_one_slot_is_the_cache_itself(make_ladder: LadderMaker) -> None:
    ladder = make_ladder("q3_k_m", "q8_0")
    slots = Slots(ladder, 1)
    read(ladder, slots, TALKS[0], 0)
    read(ladder, slots, TALKS[1], 1)
    assert read(ladder, slots, TALKS[0], 0) == 90


def test_a_text_that_is_written_anew_takes_no_slot(make_ladder: LadderMaker) -> None:
    ladder = make_ladder("q3_k_m", "q8_0")
    slots = Slots(ladder, 2)
    read(ladder, slots, TALKS[0], "other")
    for version in range(3):
        read(ladder, slots, [*TALKS[1], *range(version, version + 40)], "me")
    assert read(ladder, slots, [*TALKS[0], 7], "other") == 1


def test_what_an_interruption_left_is_not_kept_as_read(make_ladder: LadderMaker) -> None:
    ladder = make_ladder("q3_k_m", "q8_0")
    slots = Slots(ladder, 3)
    read(ladder, slots, TALKS[0], 0)
    alone = np.array(ladder.logits())

    def interrupt(_text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ladder.generate(0, Sampler(1.0, seed=3), max_tokens=50, on_text=interrupt)
    read(ladder, slots, TALKS[1], 1)
    read(ladder, slots, TALKS[0], 0)
    assert np.allclose(ladder.logits(), alone, atol=1e-3)
