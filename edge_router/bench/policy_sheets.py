"""The sheets of a policies run: who wins, what it costs, task by task, and how games were lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_router.bench.sheets import Sheet, number

Row = Mapping[str, Any]


def policy_sheets(data: Mapping[str, Any]) -> list[Sheet]:
    """All sheets of a results file of the kind "policies"."""
    rows: Sequence[Row] = data["tables"]["policies"]
    sheets = [_success(rows), _cost(rows), _by_kind(rows)]
    return [*sheets, _losses(rows)] if any(row["failures"] for row in rows) else sheets


def _success(rows: Sequence[Row]) -> Sheet:
    columns = ("router", "kv", "won", "% (95 %)", "vs high, points (95 %)", "only it/high", "p")
    cells = [
        (
            r["row"],
            r["kv"],
            f"{r['won']}/{r['games']}",
            number(r["success"], scale=100),
            *_versus(r),
        )
        for r in rows
    ]
    return Sheet("Games won", columns, cells, 2)


def _versus(row: Row) -> tuple[str, str, str]:
    found = row["against_high"]
    if found is None:
        return ("", "", "")
    return (
        number(found["difference"], "+.1f", 100),
        f"{found['only_this']}/{found['only_reference']}",
        f"{found['p_value']:.3f}",
    )


def _cost(rows: Sequence[Row]) -> Sheet:
    tiers = list(rows[0]["share"]) if rows else []
    columns = (
        *("router", "kv", *(f"% {tier}" for tier in tiers), "steps", "% refused"),
        *("written", "read", "measured s", "estimated s"),
    )
    cells = [
        (
            *(r["row"], r["kv"], *(number(r["share"][tier], ".1f", 100) for tier in tiers)),
            *(number(r["steps"]), number(r["refused"], ".1f", 100)),
            *(number(r["tokens_written"], ".0f"), number(r["tokens_read"], ".0f")),
            *(number(r["measured_s"], ".2f"), number(r["estimated_s"], ".2f")),
        )
        for r in rows
    ]
    return Sheet("A game on average: steps by tier, tokens, seconds (95 %)", columns, cells, 2)


def _by_kind(rows: Sequence[Row]) -> Sheet:
    kinds = sorted({kind for r in rows for kind in r["by_kind"]})
    cells = [(kind, *(_of_kind(r, kind) for r in rows)) for kind in kinds]
    return Sheet("Games won by task type", ("task type", *(r["row"] for r in rows)), cells)


def _of_kind(row: Row, kind: str) -> str:
    found = row["by_kind"].get(kind)
    return f"{found['won']}/{found['games']}" if found else ""


def _losses(rows: Sequence[Row]) -> Sheet:
    classes = sorted({name for r in rows for name in r["failures"]})
    cells = [
        (r["row"], r["kv"], *(str(r["failures"].get(name, "")) for name in classes)) for r in rows
    ]
    return Sheet("Games lost, by class", ("router", "kv", *classes), cells, 2)


def tier_sheets(data: Mapping[str, Any]) -> list[Sheet]:
    """All sheets of a results file of the kind "tiers"."""
    rows: Sequence[Row] = data["tables"]["tiers"]
    columns = (
        *("tier alone", "won", "% (95 %)", "vs best, points (95 %)", "only it/best", "p"),
        *("steps", "% refused", "KL/token", "% text differs", "% action differs"),
    )
    cells = [
        (
            *(r["router"], f"{r['won']}/{r['games']}", number(r["success"], scale=100)),
            *(*_versus(r), number(r["steps"]), number(r["refused"], scale=100), *_distance(r)),
        )
        for r in rows
    ]
    sheets = [Sheet("Each tier alone, and its distance from the dearest", columns, cells)]
    sheets.append(_by_kind(rows))
    return [*sheets, _losses(rows)] if any(row["failures"] for row in rows) else sheets


def _distance(row: Row) -> tuple[str, str, str]:
    found = row["distance"]
    if found is None:
        return ("", "", "")
    return (
        number(found["kl_per_token"], ".5f"),
        number(found["text_differs"], ".1f", 100),
        number(found["action_differs"], ".1f", 100),
    )


def tier_notes(data: Mapping[str, Any]) -> list[str]:
    """Crashes."""
    rows: Sequence[Row] = data["tables"]["tiers"]
    crashes = sorted({crash for r in rows for crash in r["crashes"]})
    return [f"crashed, counted as not won: {crash}" for crash in crashes]


def policy_notes(data: Mapping[str, Any]) -> list[str]:
    """What a reader must know: crashes, seconds taken side by side, missing costs."""
    rows: Sequence[Row] = data["tables"]["policies"]
    crashes = sorted({crash for r in rows for crash in r["crashes"]})
    notes = [f"crashed, counted as not won: {crash}" for crash in crashes]
    notes += [f"{r['row']}: {r['note']}" for r in rows if r["note"]]
    ways = sorted({tuple(way) for r in rows for way in r["measured_with"]})
    if len(ways) > 1 or any(jobs > 1 for jobs, _ in ways):
        told = ", ".join(f"{jobs} games at once with {n} threads each" for jobs, n in ways)
        notes.append(f"measured seconds come from {told}: compare the estimated ones")
    if not data["settings"].get("costs"):
        notes.append("no estimated seconds: run edge-router calibrate for this model first")
    return notes
