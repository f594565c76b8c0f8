"""What the registry says of a router is what the router does, and every text names one router."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.cli.types import ROUTER
from edge_router.errors import UserError
from edge_router.router.base import Decision, Features, Router
from edge_router.router.feature_table import FEATURES, SCHEMA, column, names_at
from edge_router.router.registry import RouterKind, kinds, make_router, register
from edge_router.router.spec import RouterSpec
from tests.router_arguments import ARGUMENTS

RECORDED = Path(__file__).parents[1] / "traces" / "router_decisions.json"
TIERS = ("iq1_s", "q8_0")
EVERY_KIND = pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)


def built(kind: RouterKind) -> Router:
    return make_router(kind.name + ARGUMENTS[kind.argument])


def made_up() -> list[list[float]]:
    """Steps of which the low tier is more unsure from one to the next."""
    values = [{"certainty": 1 - doubt, "doubt": doubt} for doubt in np.linspace(0, 1, 50).tolist()]
    return [[value.get(f.kind, 0.0) for f in FEATURES] for value in values]


def chosen(router: Router, dial: float) -> list[int]:
    """The tiers of steps that were recorded or made up."""
    recorded = [step["vector"] for step in json.loads(RECORDED.read_text())]
    vectors = np.array([*recorded, *made_up()], np.float32)
    vectors[:, column("dial")] = dial
    names = names_at(router.decide_at)
    router.reset(TIERS, 0)
    return [router.decide(Features(SCHEMA, names, v[: len(names)])).tier for v in vectors]


@EVERY_KIND
def test_a_kind_says_what_its_router_is_asked_and_compares(kind: RouterKind) -> None:
    router = built(kind)
    assert router.spec.kind == kind.name
    assert router.score == kind.score or router.spec.inner, "a budget's is that of its router"
    assert kind.decide_at in (router.decide_at, None)
    if router.score:
        assert set(chosen(router, 0.5)) == {0, 1}


@EVERY_KIND
def test_only_routers_that_heed_the_dial_are_moved_by_it(kind: RouterKind) -> None:
    router = built(kind)
    assert (chosen(router, 0.0) != chosen(built(kind), 1.0)) == router.heeds_dial


@EVERY_KIND
def test_only_a_trained_router_was_measured_at_its_dials(kind: RouterKind) -> None:
    router = built(kind)
    if kind.argument == "PATH":
        assert 0 < router.dial_for(0.1) < 1
    else:
        with pytest.raises(UserError, match="nobody has measured"):
            router.dial_for(0.1)


@given(st.text())
def test_a_spec_is_the_text_that_it_was_parsed_from(text: str) -> None:
    spec = RouterSpec.parse(text)
    assert RouterSpec.parse(str(spec)) == spec
    assert str(spec).strip() == text.strip()


def test_the_path_of_a_trained_router_counts_from_a_folder() -> None:
    assert RouterSpec.parse("onnx:r.onnx").beside(Path("/x")) == RouterSpec("onnx", "/x/r.onnx")
    assert RouterSpec.parse("onnx:/r.onnx").beside(Path("/x")) == RouterSpec("onnx", "/r.onnx")
    assert RouterSpec.parse("tier:r").beside(Path("/x")) == RouterSpec("tier", "r")


def test_a_router_of_ones_own_is_built_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Router):
        spec = RouterSpec("mine")

        def reset(self, tiers: tuple[str, ...], seed: int) -> None: ...

        def decide(self, features: Features) -> Decision:
            return Decision(0, "mine")

    monkeypatch.setattr("edge_router.router.registry._kinds", {})
    register(RouterKind("mine", "nothing", build=lambda spec: Mine()))
    assert isinstance(make_router("mine"), Mine)
    assert make_router("mine").decide_at == "prompt"
    with pytest.raises(UserError, match="there are mine"):
        make_router("yours")


def test_a_shell_completes_every_kind() -> None:
    option = click.Option(["--router"])
    with click.Context(click.Command("play")) as context:
        found = ROUTER.shell_complete(context, option, "")
    assert [item.value.rstrip(":") for item in found] == ["auto", *(kind.name for kind in kinds())]
