"""The rows of a policies table: who plays, under which KV mode, at which dial.

`--routers` takes any router that `play` knows ("low", "entropy:0.002", "onnx:PATH@0.3") and

    auto             the router that the model's ladder.toml suggests
    alone:NAME       that tier alone, without a ladder around it
    matched:ROUTER   chance, each tier with the share that ROUTER gave it: the same cost
    retry:ROUTER     the low tier, lost games played again for what ROUTER cost in all
    oracle           the plans of --oracle, played on the real engine
    expert           the scripted expert, which shows what the games allow
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edge_router.engine.tier import KvMode
from edge_router.errors import UserError
from edge_router.evaluate.routers import bench_router
from edge_router.router.base import router_name
from edge_router.router.parse import PLAIN

AUTO: Final = "auto"
DERIVED: Final = ("matched", "retry")
DEFAULT_ROWS: Final = "low,high,auto,matched:auto,retry:auto,expert"
WITH_DIAL: Final = ("onnx",)  # routers that --dial multiplies


@dataclass(frozen=True)
class Row:
    """One line of the table. `how` is "play", "alone", "matched", "retry", "oracle", "expert"."""

    how: str
    router: str = ""  # for alone the tier's name; for matched and retry the router compared with
    kv: str = ""  # "" where no KV is handed over
    dial: float | None = None

    @property
    def label(self) -> str:
        """How a person names the row."""
        router = router_name(self.router)
        router = router if self.dial is None else f"{router}@{self.dial:g}"
        if self.how in ("oracle", "expert"):
            return self.how
        return router if self.how == "play" else f"{self.how}:{router}"

    @property
    def base(self) -> Row:
        """For a matched or retry row: the row it is compared with."""
        return replace(self, how="play")


def parse_rows(
    specs: Iterable[str], *, kvs: Sequence[str], dials: Sequence[float], auto: str
) -> list[Row]:
    """Rows for comma-separated `specs`, `high` and the rows others refer to among them.

    Raises UserError for a row, a KV mode or a dial that is none.
    """
    for kv in kvs:
        KvMode.parse(kv)
    words = [word.strip() for spec in specs for word in spec.split(",") if word.strip()]
    if not words:
        raise UserError("--routers names no router")
    rows: list[Row] = []
    for kv in kvs:
        for word in [*words, "high"]:
            for row in _rows_of(word, kv, dials, auto):
                rows += [row.base, row] if row.how in DERIVED else [row]
    return list(dict.fromkeys(_once(row, kvs[0]) for row in rows))


def check_rows(rows: Iterable[Row], tiers: tuple[str, ...]) -> None:
    """Raise UserError, before anything is played, for a row that this ladder cannot play."""
    for row in rows:
        if row.how == "alone" and row.router not in tiers:
            raise UserError(
                f"there is no tier {row.router!r} to play alone; tiers are {', '.join(tiers)}"
            )
        if row.how in ("play", *DERIVED):
            bench_router(row.router).reset(tiers, 0)


def _rows_of(word: str, kv: str, dials: Sequence[float], auto: str) -> list[Row]:
    kind, colon, rest = word.partition(":")
    if word in ("oracle", "expert"):
        return [Row(word, kv=kv if word == "oracle" else "")]
    if kind in (*DERIVED, "alone") and word not in PLAIN:
        if not colon or not rest:
            raise UserError(
                f"--routers {word}: write {kind}:{'TIER' if kind == 'alone' else 'ROUTER'}"
            )
        if kind == "alone":
            return [Row("alone", rest)]
        return [replace(row, how=kind) for row in _rows_of(rest, kv, dials, auto)]
    router, dial = _split_dial(auto if word == AUTO else word)
    if dial is None and dials and router.partition(":")[0] in WITH_DIAL:
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
    return replace(row, kv=first_kv) if (row.how, row.router) == ("play", "low") else row
