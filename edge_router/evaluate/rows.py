"""The rows of a policies table: who plays, under which KV mode, at which dial.

`--routers` takes any router that `play` knows ("low", "entropy:0.002", "onnx:PATH@0.3") and

    auto             the router that the model's ladder.toml suggests
    alone:NAME       that tier alone, without a ladder around it
    rewrite:ROUTER   the same router, but a draft that it does not keep is written anew
    lookup:ROW       the same row, its tiers guessing from the text itself how it goes on
    matched:ROUTER   chance, each tier with the share that ROUTER gave it: the same cost
    retry:ROUTER     the low tier, lost games played again for what ROUTER cost in all
    oracle           the plans of --oracle, played on the real engine
    expert           the scripted expert, which shows what the games allow

Two routers that only a benchmark needs are registered here:

    mix:0.7/0.2/0.1  each tier with its share, by chance. Given the shares that another router
                     used, it shows what its choices are worth at the same cost ("matched ratio")
    plan:0.1.0       tier 0, then 1, then 0, and the low tier from there on. An oracle's choices,
                     found in rollouts, are played on the real engine instead of being believed
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from edge_router.engine.tier import KvMode
from edge_router.errors import UserError
from edge_router.router.base import Decision, Features, Router
from edge_router.router.registry import RouterKind, make_router, register
from edge_router.router.spec import RouterSpec

DERIVED: Final = ("matched", "retry")
REWRITE: Final = "rewrite"
LOOKUP: Final = "lookup"
RETRY: Final = "retry"  # alone it is a router, before a router it is a row
LOW: Final = RouterSpec("low")
HIGH: Final = RouterSpec("high")
DEFAULT_ROWS: Final = "low,high,auto,matched:auto,retry:auto,expert"


@dataclass(frozen=True)
class Row:
    """One line of the table. `how` is "play" or one of those above that are no routers."""

    how: str
    router: RouterSpec | None = None  # for matched and retry the one compared with
    kv: str = ""  # "" where no KV is handed over
    dial: float | None = None
    name: str = ""  # what people call it, where that is not the router's spec
    lookup: bool = False

    @property
    def label(self) -> str:
        """How a person names the row."""
        if self.name:
            return self.name
        if self.lookup:
            return f"{LOOKUP}:{replace(self, lookup=False).label}"
        if self.router is None:
            return self.how
        router = self.tier or self.router.short
        router = router if self.dial is None else f"{router}@{self.dial:g}"
        return router if self.how == "play" else f"{self.how}:{router}"

    @property
    def tier(self) -> str:
        """For an alone row: the tier's name."""
        return ((self.router and self.router.argument) or "") if self.how == "alone" else ""

    @property
    def base(self) -> Row:
        """For a matched or retry row: the row it is compared with."""
        return replace(self, how="play")

    def plain(self) -> dict[str, Any]:
        """The row in results: its router as text."""
        who = {"how": self.how, "router": self.tier or str(self.router or "")}
        plain = {**who, "kv": self.kv, "dial": self.dial}
        return plain | ({"lookup": True} if self.lookup else {})


def parse_rows(
    specs: Iterable[str],
    *,
    kvs: Sequence[str],
    dials: Sequence[float],
    auto: RouterSpec,
    against: str = "high",
) -> list[Row]:
    """Rows for comma-separated `specs`, `against` and the rows others refer to among them.

    Raises UserError for a row, a KV mode or a dial that is none.
    """
    for kv in kvs:
        KvMode.parse(kv)
    words = [word.strip() for spec in specs for word in spec.split(",") if word.strip()]
    if not words:
        raise UserError("--routers names no router")
    rows: list[Row] = []
    for kv in kvs:
        for word in [*words, against]:
            for row in _rows_of(word, kv, dials, auto):
                rows += [row.base, row] if row.how in DERIVED else [row]
    return list(dict.fromkeys(_once(row, kvs[0]) for row in rows))


def check_rows(rows: Iterable[Row], tiers: tuple[str, ...]) -> None:
    """Raise UserError, before anything is played, for a row that this ladder cannot play."""
    for row in rows:
        if row.how == "alone" and row.tier not in tiers:
            raise UserError(
                f"there is no tier {row.tier!r} to play alone; tiers are {', '.join(tiers)}"
            )
        if row.router is not None:
            make_router(row.router).reset(tiers, 0)


def _rows_of(word: str, kv: str, dials: Sequence[float], auto: RouterSpec) -> list[Row]:
    asked = RouterSpec.parse(word)
    if word in ("oracle", "expert"):
        return [Row(word, kv=kv if word == "oracle" else "")]
    how, rest = asked.kind, asked.argument
    if how in (*DERIVED, REWRITE, LOOKUP, "alone") and word != RETRY:
        if not rest:
            raise UserError(
                f"--routers {word}: write {how}:{'TIER' if how == 'alone' else 'ROUTER'}"
            )
        if how == "alone":
            return [Row("alone", RouterSpec("tier", rest))]
        rows = _rows_of(rest, kv, dials, auto)
        return [
            replace(row, lookup=True) if how == LOOKUP else replace(row, how=how) for row in rows
        ]
    text, dial = _split_dial(word)
    router = RouterSpec.parse(text).with_auto(auto)
    if dial is None and dials and router.file is not None:  # trained ones are played at each
        return [Row("play", router, kv, d) for d in dials]
    return [Row("play", router, kv, dial)]


def _split_dial(word: str) -> tuple[str, float | None]:
    router, at, text = word.rpartition("@")
    try:
        dial = float(text)
    except ValueError:
        return word, None
    if not at or not 0 <= dial <= 1:
        raise UserError(f"--routers {word}: a dial lies between 0 and 1")
    return router, dial


def _once(row: Row, first_kv: str) -> Row:
    """`low` never hands KV over, so it is played under one mode only."""
    return replace(row, kv=first_kv) if (row.how, row.router) == ("play", LOW) else row


# -- routers that only a benchmark needs ----------------------------------------------------------

MIX, PLAN = "mix", "plan"
Number = TypeVar("Number", int, float)


class MixRouter(Router):
    """Each tier by chance, with its share."""

    def __init__(self, shares: Sequence[float]) -> None:
        if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 1e-3:
            raise UserError(f"a mix needs shares of 0 or more that add up to 1, not {shares}")
        self.shares = tuple(shares)
        self.spec = mix_spec(shares)
        self._random = random.Random(0)

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        if len(tiers) != len(self.shares):
            raise UserError(
                f"router {self.spec}: {len(self.shares)} shares for a ladder of {len(tiers)} tiers"
            )
        self._random = random.Random(f"mix/{seed}")

    def decide(self, features: Features) -> Decision:
        tier = self._random.choices(range(len(self.shares)), self.shares)[0]
        return Decision(tier, f"by chance, share {self.shares[tier]:.3f}")


class PlanRouter(Router):
    """The tiers of a plan, step by step, then the low tier."""

    def __init__(self, plan: Sequence[int]) -> None:
        self.plan = tuple(plan)
        self.spec = plan_spec(plan)
        self._step = 0

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        if any(not 0 <= tier < len(tiers) for tier in self.plan):
            raise UserError(f"router {self.spec}: the ladder has {len(tiers)} tiers, from 0 on")
        self._step = 0

    def decide(self, features: Features) -> Decision:
        planned = self._step < len(self.plan)
        tier = self.plan[self._step] if planned else 0
        self._step += 1
        return Decision(tier, "as planned" if planned else "after the plan")


def mix_spec(shares: Sequence[float]) -> RouterSpec:
    return RouterSpec(MIX, "/".join(f"{share:.4f}" for share in shares))


def plan_spec(plan: Sequence[int]) -> RouterSpec:
    return RouterSpec(PLAN, ".".join(map(str, plan)))


def _mix(spec: RouterSpec) -> Router:
    return MixRouter(_numbers(spec, "/", float))


def _plan(spec: RouterSpec) -> Router:
    return PlanRouter(_numbers(spec, ".", int))


def _numbers(spec: RouterSpec, between: str, kind: type[Number]) -> list[Number]:
    try:
        return [kind(text) for text in (spec.argument or "").split(between) if text]
    except ValueError:
        raise UserError(f"router {spec}: {spec.argument!r} is no list of numbers") from None


register(RouterKind(MIX, "each tier by chance, with its share", _mix, "SHARES", listed=False))
register(RouterKind(PLAN, "the tiers of a plan, step by step", _plan, "TIERS", listed=False))
