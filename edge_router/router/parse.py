"""From what a user types after `--router` to a router, with a sentence for every mistake."""

from __future__ import annotations

from collections.abc import Callable

from edge_router.errors import UserError
from edge_router.router.base import Router
from edge_router.router.baselines import (
    DraftRouter,
    EntropyRouter,
    HighRouter,
    LowRouter,
    MarginRouter,
    RandomRouter,
    RetryRouter,
    TierRouter,
)
from edge_router.router.onnx_router import OnnxRouter

PLAIN: dict[str, Callable[[], Router]] = {
    "low": LowRouter,
    "high": HighRouter,
    "retry": RetryRouter,
}
NUMBERED: dict[str, tuple[Callable[[float], Router], str]] = {
    "random": (RandomRouter, "P"),
    "entropy": (EntropyRouter, "T"),
    "margin": (MarginRouter, "T"),
    "draft": (DraftRouter, "P"),
}
NAMED: dict[str, tuple[Callable[[str], Router], str]] = {
    "tier": (TierRouter, "NAME"),
    "onnx": (OnnxRouter, "PATH"),
}
EXISTING = "low, high, tier:NAME, random:P, retry, entropy:T, margin:T, draft:P, onnx:PATH"


def make_router(spec: str) -> Router:
    """The router that `spec` names ("low", "entropy:0.8", "onnx:models/router.onnx").

    Raises UserError for an unknown router, a parameter that is missing, superfluous,
    not a number or out of range, and for ONNX files that are no router of this version.
    """
    kind, colon, parameter = spec.strip().partition(":")
    if kind in PLAIN:
        if colon:
            raise UserError(f"router {spec}: {kind} takes no parameter; write {kind}")
        return PLAIN[kind]()
    if kind in NUMBERED:
        make, placeholder = NUMBERED[kind]
        return make(_number(spec, kind, parameter, placeholder))
    if kind in NAMED:
        make_named, placeholder = NAMED[kind]
        if not parameter:
            raise _missing(spec, kind, placeholder)
        return make_named(parameter)
    raise UserError(f"there is no router {spec!r}; there are {EXISTING}")


def _number(spec: str, kind: str, parameter: str, placeholder: str) -> float:
    if not parameter.strip():
        raise _missing(spec, kind, placeholder)
    try:
        return float(parameter)
    except ValueError:
        raise UserError(
            f"router {spec}: {parameter!r} is not a number; write {kind}:{placeholder}, "
            f"for example {kind}:0.5"
        ) from None


def _missing(spec: str, kind: str, placeholder: str) -> UserError:
    return UserError(f"router {spec}: its parameter is missing; write {kind}:{placeholder}")
