"""Every kind of router: how it is built, what it does, and what it compares.

Commands, completion, help, benchmarks and training ask here; whoever has a router of their own
registers its kind:

    register(RouterKind("mine", "what it does", build=lambda spec: MyRouter()))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_router.errors import UserError
from edge_router.router.base import Router
from edge_router.router.budget import BudgetRouter, parse_budget
from edge_router.router.feature_table import DecideAt
from edge_router.router.rules import (
    ChainRouter,
    DraftRouter,
    EntropyRouter,
    HighRouter,
    LowRouter,
    MarginRouter,
    RandomRouter,
    RetryRouter,
    TierRouter,
    VerifyRouter,
)
from edge_router.router.spec import BUDGET, TRAINED, RouterSpec


@dataclass(frozen=True)
class RouterKind:
    """What there is to know of a kind before one is built."""

    name: str
    doc: str  # what it picks
    build: Callable[[RouterSpec], Router]  # raises UserError for an argument that is none
    argument: str = ""  # what stands behind the colon, "P"; "" where there is no colon
    optional: bool = False  # it may be left out, colon and all
    decide_at: DecideAt | None = "prompt"  # as in Router; None where the argument says
    score: str = ""  # as in Router
    listed: bool = True  # offered in help, completion and messages

    @property
    def written(self) -> str:
        """How it is typed: "entropy:T", "verify[:N]"."""
        if self.optional:
            return f"{self.name}[:{self.argument}]"
        return f"{self.name}:{self.argument}" if self.argument else self.name


_kinds: dict[str, RouterKind] = {}


def register(kind: RouterKind) -> None:
    """Offer a kind; one of the same name is replaced."""
    _kinds[kind.name] = kind


def kinds() -> list[RouterKind]:
    """The kinds that are offered, in the order of the help."""
    return [kind for kind in _kinds.values() if kind.listed]


def one_of_the_routers() -> str:
    """For a help text: "low, high, tier:NAME or onnx:PATH"."""
    *most, last = (kind.written for kind in kinds())
    return f"{', '.join(most)} or {last}"


def find_kind(spec: RouterSpec) -> RouterKind:
    """The kind of a router. Raises UserError where there is none, or none with an argument."""
    kind = _kinds.get(spec.kind)
    if kind is None:
        there = ", ".join(kind.written for kind in kinds())
        raise UserError(f"there is no router {str(spec)!r}; there are {there}")
    if spec.argument is not None and not kind.argument:
        raise UserError(f"router {spec}: {kind.name} takes no parameter; write {kind.name}")
    return kind


def make_router(spec: RouterSpec | str) -> Router:
    """Build a router from its spec, or from its text ("low", "entropy:0.8").

    Raises UserError for an unknown router, a parameter that is missing, superfluous,
    not a number or out of range, and for ONNX files that are no router of this version.
    """
    if isinstance(spec, str):
        spec = RouterSpec.parse(spec)
    return find_kind(spec).build(spec)


# -- building from a spec -------------------------------------------------------------------------


def _plain(make: Callable[[], Router]) -> Callable[[RouterSpec], Router]:
    return lambda spec: make()


def _named(make: Callable[[str], Router]) -> Callable[[RouterSpec], Router]:
    return lambda spec: make(_argument(spec))


def _numbered(make: Callable[[float], Router]) -> Callable[[RouterSpec], Router]:
    return lambda spec: make(_number(spec))


def _argument(spec: RouterSpec) -> str:
    if not (spec.argument or "").strip():
        raise UserError(
            f"router {spec}: its parameter is missing; write {_kinds[spec.kind].written}"
        )
    return spec.argument or ""


def _number(spec: RouterSpec) -> float:
    try:
        return float(_argument(spec))
    except ValueError:
        raise UserError(
            f"router {spec}: {spec.argument!r} is not a number; write "
            f"{_kinds[spec.kind].written}, for example {spec.kind}:0.5"
        ) from None


def _verify(spec: RouterSpec) -> Router:
    if spec.argument is None:
        return VerifyRouter()
    try:
        return VerifyRouter(int(spec.argument))
    except ValueError:
        raise UserError(
            f"router {spec}: {spec.argument!r} is no number of tokens; write verify, or verify:8"
        ) from None


def _trained(path: str) -> Router:
    from edge_router.router.onnx_router import OnnxRouter  # loads onnxruntime

    return OnnxRouter(path)


def _within_budget(spec: RouterSpec) -> Router:
    share, inner = parse_budget(spec)
    return BudgetRouter(make_router(inner), share)


_OURS: Sequence[RouterKind] = (
    RouterKind("low", "always the low tier", _plain(LowRouter)),
    RouterKind("high", "always the high tier", _plain(HighRouter)),
    RouterKind(
        "verify",
        "the low tier drafts every step, the high tier verifies it (N tokens at a time)",
        _verify,
        "N",
        optional=True,
        decide_at=None,
    ),
    RouterKind(
        "chain",
        "the low tier drafts every step, each higher tier verifies what the one below made of it",
        _plain(ChainRouter),
        decide_at="draft",
    ),
    RouterKind("tier", "always the tier of that name", _named(TierRouter), "NAME"),
    RouterKind("random", "the high tier with probability P (seeded)", _numbered(RandomRouter), "P"),
    RouterKind("retry", "the high tier after a refused command", _plain(RetryRouter)),
    RouterKind(
        "entropy",
        "the high tier when the low tier's next-token entropy reaches T nats",
        _numbered(EntropyRouter),
        "T",
        score="entropy",
    ),
    RouterKind(
        "margin",
        "the high tier when the two likeliest tokens' probabilities lie less than T apart",
        _numbered(MarginRouter),
        "T",
        score="margin",
    ),
    RouterKind(
        "draft",
        "the high tier when the low tier's draft of the step has a token less probable than P",
        _numbered(DraftRouter),
        "P",
        decide_at="draft",
        score="draft_min_p",
    ),
    RouterKind(
        TRAINED,
        "what a trained router says, if it was made for these features and tiers",
        _named(_trained),
        "PATH",
        decide_at=None,
        score="p(escalate)",
    ),
    RouterKind(
        BUDGET,
        "the high tier for the SHARE of the steps that ROUTER is least sure of",
        _within_budget,
        "SHARE:ROUTER",
        decide_at=None,
    ),
)
for _kind in _OURS:
    register(_kind)
