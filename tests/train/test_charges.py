"""What a step costs in training: seconds by the profile, a verified draft at its own price."""

from __future__ import annotations

import numpy as np
import pytest

from edge_router.engine.tier import KvMode
from edge_router.ladders.costs import CostProfile, TierCost
from edge_router.router.feature_table import DecideAt, column, feature
from tests.toy_forest import ToyGame, toy_tree
from train.router.charges import by_seconds
from train.router.forest import Forest
from train.router.node import Node, Writing
from train.router.tree import GameTree

PROMPT = 40  # tokens before the step
GROWN = 7  # tokens by which the prompt has grown
LOW = TierCost("low", 1, (1, 101), (0,), ((0.01, 0.11),), (0.02,))
HIGH = TierCost(
    *("high", 2, (1, 101), (0,), ((0.02, 0.22),), (0.05,)), drafts=(1, 11), verify_s=((0.1, 0.2),)
)
PROFILE = CostProfile("toy", "", (LOW, HIGH), handoff_call_s=1.0, handoff_token_s=0.1, threads=1)


def one_step(low: tuple[int, ...], high: tuple[int, ...]) -> Forest:
    """A game whose first step the tiers write so; all tokens but the last go through the model."""
    root = toy_tree(ToyGame("toy", (False,))).root
    assert root is not None
    features = root.features.copy()
    features[column("new_tokens")] = feature("new_tokens").encode(GROWN)
    features[column("prompt_tokens")] = feature("prompt_tokens").encode(PROMPT)
    writings = tuple(
        Writing("", tokens, "", 0.9, 0.1, len(tokens) - 1, 0.0, 0.0, 0.0) for tokens in (low, high)
    )
    values = {name: getattr(root, name) for name in Node.__slots__}
    tree = GameTree(ToyGame("toy", (False,)))
    tree.add([Node(**(values | {"features": features, "writings": writings}))])
    forest = Forest(2)
    forest.add_tree(tree)
    return forest


def seconds(
    forest: Forest,
    known: np.ndarray | None = None,
    decide_at: DecideAt = "draft",
    kv: str = "handoff",
) -> np.ndarray:
    return by_seconds(
        forest,
        known,
        profile=PROFILE,
        names=("low", "high"),
        decide_at=decide_at,
        kv=KvMode.parse(kv),
    )


@pytest.mark.parametrize(
    ("high", "decoded"),
    [
        ((1, 2, 3, 4, 5), 0),  # the draft, accepted whole
        ((1, 2, 9, 8, 7, 6), 3),  # two accepted; 9, 8 and 7 are run through the model
        ((9,), 0),  # nothing accepted, and the one token is its own end
    ],
)
def test_an_escalated_draft_is_verified_and_only_the_rest_is_decoded(
    high: tuple[int, ...], decoded: int
) -> None:
    low = (1, 2, 3, 4, 5)
    kept, escalated = seconds(one_step(low, high))[0]
    prefill = LOW.prefill(GROWN)
    assert kept == pytest.approx(prefill + 4 * 0.02)
    handoff = 1.0 + GROWN * 0.1
    draft, verify = 4 * 0.02, HIGH.verify(5)
    assert escalated == pytest.approx(prefill + draft + handoff + verify + decoded * 0.05)


def test_a_router_at_the_prompt_has_no_draft_to_verify() -> None:
    forest = one_step((1, 2, 3), (1, 2, 9))
    escalated = seconds(forest, decide_at="prompt")[0, 1]
    prompt = LOW.prefill(GROWN) + 1.0 + GROWN * 0.1 + HIGH.prefill(1)
    assert escalated == pytest.approx(prompt + 2 * 0.05)


@pytest.mark.parametrize(("kv", "own", "handed"), [("handoff:3", 3, GROWN), ("exact", GROWN, 0)])
def test_a_higher_tier_pays_for_the_prompt_that_it_reads_itself(
    kv: str, own: int, handed: int
) -> None:
    forest = one_step((1, 2, 3), (1, 2, 3))
    handoff = 1.0 + handed * 0.1 if handed else 0.0
    low = LOW.prefill(GROWN) + 2 * 0.02
    assert seconds(forest, kv=kv)[0, 0] == pytest.approx(low)
    assert seconds(forest, kv=kv)[0, 1] == pytest.approx(low + handoff + HIGH.verify(own + 2))
    at_prompt = seconds(forest, decide_at="prompt", kv=kv)[0, 1]
    read = LOW.prefill(GROWN) + handoff + HIGH.prefill(own)
    assert at_prompt == pytest.approx(read + 2 * 0.05)


def test_without_a_profile_only_the_share_counts() -> None:
    from train.router.charges import by_share

    assert np.array_equal(by_share(one_step((1,), (2,))), [[0.0, 1.0]])


def test_a_forest_that_has_grown_costs_what_it_would_computed_anew() -> None:
    grown, known = Forest(2), None
    for i in range(4):
        grown.add_tree(toy_tree(ToyGame(f"toy {i}", (False, True, False))))
        known = seconds(grown, known)
    assert known is not None
    assert known.tobytes() == seconds(grown).tobytes()
    assert (known[~grown.done[: grown.size]] > 0).all()


def test_what_is_known_of_a_forest_is_not_computed_again() -> None:
    forest = one_step((1, 2), (1, 3))
    known = np.full((forest.size, 2), 7.0)
    forest.add_tree(toy_tree(ToyGame("other", (False,))))
    found = seconds(forest, known)
    assert (found[: len(known)] == 7.0).all()
    assert np.array_equal(found[len(known) :], seconds(forest)[len(known) :])
