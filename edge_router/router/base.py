"""A router maps what is known before a step to the tier that writes it.

`Features` are computed once a step by `router.features`; a router only reads
them. `Decision.reason` is a short phrase a person understands, shown by every
listener ("entropy 1.32 >= 0.80").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_router.router.feature_table import DecideAt
from edge_router.router.logits import Measure


@dataclass(frozen=True)
class Features:
    """One step's features: `vector` follows `names`, both fixed by `schema`."""

    schema: str  # e.g. "edge-router/features/4"
    names: tuple[str, ...]
    vector: NDArray[np.float32]  # shape (len(names),)
    measure: Measure | None = None  # of the logits before the step, where they were measured

    def __getitem__(self, name: str) -> float:
        return float(self.vector[self.names.index(name)])


@dataclass(frozen=True)
class Decision:
    """The router's choice for one step.

    Routers that compare a number with limits tell both, so that a listener can
    draw them: tier i is chosen from `score` >= `thresholds[i - 1]` on.
    """

    tier: int  # index into the ladder, 0 = cheapest
    reason: str
    probability: float | None = None  # of needing a dearer tier, where the router has one
    score: float | None = None  # the cheapest tier's doubt, in the router's own unit
    thresholds: tuple[float, ...] = ()  # ascending, in the unit of `score`
    forced: bool = False  # a person overruled the router


class Router(Protocol):
    """Maps features to a tier. `spec` is the string that builds it again ("entropy:0.8").

    A router may have an attribute `decide_at` (see the function of that name): with "draft" it
    is asked after the cheapest tier has written the step on trial, with features of that text.
    """

    spec: str

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        """Called at the start of every episode with the ladder's tier names, cheapest first."""
        ...

    def decide(self, features: Features) -> Decision: ...


def decide_at(router: Router) -> DecideAt:
    """When a router wants to be asked: before any token is written, unless it says otherwise."""
    return "draft" if getattr(router, "decide_at", "prompt") == "draft" else "prompt"


def router_name(spec: str) -> str:
    """A router's spec; of the path to a trained one only folder and file: all that has room."""
    kind, _, path = spec.partition(":")
    return f"{kind}:{'/'.join(PurePath(path).parts[-2:])}" if kind == "onnx" else spec
