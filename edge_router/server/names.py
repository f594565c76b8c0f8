"""Which tier, dial or router the name of a model asks for, as in RouteLLM's server.

household             the ladder under the server's router
household@0.3         that dial
household:q8_0        that tier alone, as if the others were not there
household#verify      another router; one that needs no file
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_router.errors import UserError
from edge_router.router.registry import find_kind, kinds
from edge_router.router.spec import TRAINED, RouterSpec
from edge_router.server.errors import ApiError

_FORM: Final = re.compile(
    r"(?P<name>[^:@#]*)(:(?P<tier>[^@#]*))?(@(?P<dial>[^#]*))?(#(?P<router>.*))?", re.DOTALL
)


@dataclass(frozen=True)
class ModelName:
    """A model's name, taken apart; None is what the server was started with."""

    tier: str | None = None
    dial: float | None = None
    router: str | None = None


def parse_name(text: str, served: str, tiers: Sequence[str]) -> ModelName:
    """Raises `ApiError` for a model that is not served, or a part of the name that is wrong."""
    parts = _FORM.fullmatch(text)
    if parts is None or parts["name"] != served:
        here = ", ".join(names(served, tiers))
        raise _wrong(f"the model {text[:80]!r} is not here; this server has {here}")
    if parts["tier"] is not None and parts["tier"] not in tiers:
        raise _wrong(f"there is no tier {parts['tier'][:80]!r}; there are {', '.join(tiers)}")
    if parts["tier"] is not None and (parts["dial"] or parts["router"]):
        raise _wrong("a tier alone has neither dial nor router")
    return ModelName(parts["tier"], _dial(parts["dial"]), _router(parts["router"]))


def names(served: str, tiers: Sequence[str]) -> list[str]:
    """What /v1/models lists."""
    plain = [kind.name for kind in kinds() if kind.optional or not kind.argument]
    tiers_alone = [f"{served}:{tier}" for tier in tiers] if len(tiers) > 1 else []
    return [served, *tiers_alone, *(f"{served}#{name}" for name in plain)]


def _dial(text: str | None) -> float | None:
    if text is None:
        return None
    if not re.fullmatch(r"[01]|0?\.\d{1,20}|1\.0{1,20}", text):
        raise _wrong(f"the dial goes from 0 to 1, as in @0.3; it cannot be {text[:40]!r}")
    return float(text)


def _router(text: str | None) -> str | None:
    if text is None:
        return None
    if TRAINED in text.split(":"):  # its argument is a file of this machine
        raise _wrong("a router that is read from a file is chosen where the server is started")
    try:
        find_kind(RouterSpec.parse(text)).build(RouterSpec.parse(text))
    except UserError as error:
        raise _wrong(str(error)[:400]) from error
    return text


def _wrong(message: str) -> ApiError:
    return ApiError(404, message, code="model_not_found", param="model")
