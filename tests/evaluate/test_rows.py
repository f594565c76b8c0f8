"""Rows of a policies table: what a user may write after --routers, and what is refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edge_router.errors import UserError
from edge_router.evaluate.rows import Row, check_rows, parse_rows
from edge_router.router.base import Features
from edge_router.router.registry import kinds, make_router
from edge_router.router.spec import RouterSpec
from tests.router_arguments import ARGUMENTS

NOTHING = Features("none", (), np.zeros(0, np.float32))


def rows(
    *specs: str, kvs: tuple[str, ...] = ("handoff",), dials: tuple[float, ...] = ()
) -> list[Row]:
    return parse_rows(specs, kvs=kvs, dials=dials, auto=RouterSpec("entropy", "0.5"))


def labels(found: list[Row]) -> list[str]:
    return [row.label for row in found]


def test_high_is_always_there_to_compare_with() -> None:
    assert labels(rows("low")) == ["low", "high"]
    assert labels(rows("high,low", "low")) == ["high", "low"]


def test_a_row_that_refers_to_another_brings_it_along() -> None:
    assert labels(rows("matched:auto,high")) == ["entropy:0.5", "matched:entropy:0.5", "high"]


def test_kv_modes_multiply_rows_but_not_those_that_hand_nothing_over() -> None:
    found = rows("low,high,alone:q8_0,expert", kvs=("handoff", "exact"))
    assert [(r.label, r.kv) for r in found] == [
        *(("low", "handoff"), ("high", "handoff"), ("alone:q8_0", ""), ("expert", "")),
        ("high", "exact"),
    ]


def test_a_router_may_be_had_without_verifying_to_compare_with() -> None:
    found = rows("draft:0.5,rewrite:draft:0.5")
    assert labels(found) == ["draft:0.5", "rewrite:draft:0.5", "high"]
    assert found[0].router == found[1].router


def test_any_row_may_be_had_with_lookup_to_compare_with() -> None:
    found = rows("lookup:alone:q8_0,lookup:rewrite:draft:0.5,matched:lookup:auto,low")
    assert labels(found) == [
        *("lookup:alone:q8_0", "lookup:rewrite:draft:0.5", "lookup:entropy:0.5"),
        *("lookup:matched:entropy:0.5", "low", "high"),
    ]
    assert [row.lookup for row in found] == [True] * 4 + [False] * 2


def test_dials_multiply_onnx_routers_and_may_be_written_on_one() -> None:
    found = rows("onnx:a.onnx,retry:onnx:a.onnx,low", dials=(0.0, 0.5))
    assert labels(found)[:4] == [
        *("onnx:a.onnx@0", "onnx:a.onnx@0.5", "retry:onnx:a.onnx@0", "retry:onnx:a.onnx@0.5")
    ]
    assert rows("onnx:a@b.onnx@0.3")[0] == Row(
        "play", RouterSpec.parse("onnx:a@b.onnx"), "handoff", 0.3
    )


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (" , ", "names no router"),
        ("matched:", "write matched:ROUTER"),
        ("alone", "write alone:TIER"),
        ("rewrite", "write rewrite:ROUTER"),
        ("lookup:", "write lookup:ROUTER"),
        ("verify:0", "at least 1 token"),
        ("verify:all", "no number of tokens"),
        ("high@2", "between 0 and 1"),
        ("nonesuch", "no router 'nonesuch'"),
        ("retry:entropy:x", "not a number"),
        ("alone:q2_k", "no tier 'q2_k' to play alone"),
        ("tier:q2_k", "no tier 'q2_k'"),
        ("mix:0.5/0.2", "add up to 1"),
        ("plan:0.x", "no list of numbers"),
    ],
)
def test_a_mistyped_row_is_answered_in_a_sentence(spec: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_rows(rows(spec), ("q4_k_m", "q8_0"))


def test_a_mix_gives_each_tier_its_share_and_differs_between_seeds() -> None:
    router = make_router("mix:0.2000/0.5000/0.3000")
    drawn = []
    for seed in (1, 2):
        router.reset(("a", "b", "c"), seed)
        drawn.append([router.decide(NOTHING).tier for _ in range(2000)])
    assert drawn[0] != drawn[1]
    counts = Counter(drawn[0])
    assert [counts[i] / 2000 for i in range(3)] == pytest.approx([0.2, 0.5, 0.3], abs=0.04)


def test_a_plan_is_followed_and_then_the_low_tier_plays() -> None:
    router = make_router("plan:1.0.2")
    for _ in range(2):  # every episode from its start
        router.reset(("a", "b", "c"), 0)
        assert [router.decide(NOTHING).tier for _ in range(5)] == [1, 0, 2, 0, 0]
    assert make_router("plan:").decide(NOTHING).tier == 0
    with pytest.raises(UserError, match="2 tiers"):
        router.reset(("a", "b"), 0)


@pytest.mark.parametrize(
    "router",
    [kind.name + ARGUMENTS[kind.argument] for kind in kinds()],
)
def test_every_router_of_play_is_a_row_also_one_whose_name_begins_another_kind_of_row(
    router: str,
) -> None:
    found = rows(router, f"retry:{router}")
    assert (found[0].how, str(found[0].router)) == ("play", router)
    assert "retry" in [row.how for row in found]
    check_rows(found, ("iq1_s", "q8_0"))


def test_a_router_in_a_file_is_called_by_its_file_and_folder() -> None:
    assert Row("matched", RouterSpec.parse("onnx:/a/b/mine/router.onnx"), dial=0.3).label == (
        "matched:onnx:mine/router.onnx@0.3"
    )
    assert Row("play", RouterSpec.parse("onnx:router.onnx")).label == "onnx:router.onnx"
