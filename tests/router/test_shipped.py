"""The shipped router decides as it did when its figures were measured.

The recording holds steps of the embedded model's games, with the dial at several places: what the
logits were measured to, the facts of the step and its draft, the vector made of them, and what
the router said.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_router.agent.trace import read_trace
from edge_router.router.base import Features
from edge_router.router.feature_table import ALL_NAMES, RENAMED
from edge_router.router.features import Draft, StepContext, Wording, from_measure, with_draft
from edge_router.router.logits import Measure, TokenStats
from edge_router.router.onnx_router import OnnxRouter

HERE = Path(__file__).parents[1]
ROUTER = HERE.parent / "models" / "household" / "router.onnx"
STEPS = json.loads((HERE / "traces" / "router_decisions.json").read_text())


def features(step: dict[str, Any]) -> Features:
    shown = step["draft"]
    draft = Draft(
        **shown
        | {
            "tokens": tuple(TokenStats(*token) for token in shown["tokens"]),
            "wording": Wording(**shown["wording"]),
        }
    )
    return with_draft(
        from_measure(Measure(*step["measure"]), StepContext(**step["context"])), draft
    )


def test_its_features_have_the_numbers_that_it_was_trained_on() -> None:
    vectors = np.stack([features(step).vector for step in STEPS])
    assert np.array_equal(vectors, np.array([step["vector"] for step in STEPS], np.float32))


def test_it_decides_as_recorded() -> None:
    router = OnnxRouter(ROUTER)
    router.reset(("iq1_s", "q8_0"), 0)
    decisions = [router.decide(features(step)) for step in STEPS]
    assert [d.tier for d in decisions] == [step["tier"] for step in STEPS]
    assert {d.tier for d in decisions} == {0, 1}
    assert [d.probability for d in decisions] == pytest.approx(
        [step["probability"] for step in STEPS], abs=1e-5
    )


@pytest.mark.parametrize("schema", RENAMED)
def test_a_router_with_its_features_older_names_decides_the_same(
    schema: str, tmp_path: Path
) -> None:
    model = onnx.load(str(ROUTER))
    older = {new: old for old, new in RENAMED[schema].items()}
    values = {
        "edge_router.schema": schema,
        "edge_router.features": json.dumps([older.get(name, name) for name in ALL_NAMES]),
    }
    for entry in model.metadata_props:
        entry.value = values.get(entry.key, entry.value)
    onnx.save(model, str(tmp_path / "older.onnx"))
    routers = [OnnxRouter(ROUTER), OnnxRouter(tmp_path / "older.onnx")]
    for router in routers:
        router.reset(("iq1_s", "q8_0"), 0)
    assert set(older) & set(ALL_NAMES)
    for step in STEPS:
        one, other = (router.decide(features(step)) for router in routers)
        assert (one.tier, one.probability) == (other.tier, other.probability)


def test_an_older_trace_tells_its_features_by_the_names_of_today() -> None:
    path = HERE / "traces" / "routed-before-features-4.jsonl"
    assert '"dear_share"' in path.read_text("utf-8")
    for step in read_trace(path).steps:
        assert tuple(step.routed.features) == ALL_NAMES
