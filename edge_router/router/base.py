"""What a router is: it maps what is known before a step to the tier that writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_router.errors import UserError
from edge_router.router.feature_table import DecideAt
from edge_router.router.spec import RouterSpec

if TYPE_CHECKING:  # help and completion list the routers, and load no NumPy for it
    import numpy as np
    from numpy.typing import NDArray

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

    Routers that compare a score with thresholds tell both, so that a listener can
    draw them: tier i is chosen from `score` >= `thresholds[i - 1]` on.
    """

    tier: int  # index into the ladder, 0 = lowest
    reason: str  # a short phrase that a person understands: "entropy 1.32 >= 0.80"
    probability: float | None = None  # that a higher tier is needed, where the router has one
    score: float | None = None  # how unsure the low tier is, in the router's own unit
    thresholds: tuple[float, ...] = ()  # ascending, in the unit of `score`
    forced: bool = False  # a person overruled the router


class Router(Protocol):
    """Chooses the tier of every step. To write one, inherit: what is given here is the default.

    A router belongs to one episode at a time: `reset`, then `decide` once a step, in order.
    It may keep a state from step to step, and must depend on nothing else but the features
    and the seed.
    """

    spec: RouterSpec
    """Builds the router again; `str(spec)` is what traces and tables call it."""

    decide_at: DecideAt = "prompt"
    """When `decide` is called. "prompt": before any token of the step is written, with the
    features `NAMES`. "draft": after the low tier has written the step as a draft, which is kept
    where tier 0 is chosen and verified by any other tier, with the features `ALL_NAMES`."""

    chunk: int = 0
    """How many tokens the low tier drafts at a time for a higher tier that verifies them. 0: none;
    the tier writes alone, or verifies the whole draft of a router that decides at the draft."""

    chained: bool = False
    """Whether every tier below the chosen one verifies a draft before it, from low to high, where
    the router decides at the draft. False: the chosen tier alone verifies."""

    score: str = ""
    """What is compared with a threshold: the name of a feature, or "p(escalate)" for a
    probability of the router's own; "" where nothing is compared."""

    heeds_dial: bool = False
    """Whether the feature `dial` (0 cost, 1 quality) can change a decision."""

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        """An episode begins, on tiers of these names, low to high; all draws follow from `seed`.

        Raises UserError when the router does not fit the ladder.
        """
        ...

    def decide(self, features: Features) -> Decision:
        """The tier of the next step. Raises UserError when the router cannot answer."""
        ...

    def dial_for(self, share: float) -> float:
        """The dial (0 to 1) at which about `share` (0 to 1) of the steps were escalated.

        Raises UserError where nobody has measured that, as for every router without training.
        """
        raise UserError(f"nobody has measured which dial of {self.spec} keeps a budget")
