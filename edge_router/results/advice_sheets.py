"""The sheets of an advice: what each precision costs, and the pair on other numbers of cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_router.results.file import Row
from edge_router.results.speed_sheets import BUSY
from edge_router.screen.tables import Sheet


def advice_sheets(data: Mapping[str, Any]) -> list[Sheet]:
    """All sheets of a results file of the kind "advice"."""
    return [_candidates(data["tables"]["candidates"]), _cores(data["tables"]["cores"])]


def _candidates(rows: Sequence[Row]) -> Sheet:
    batches = list(rows[0]["verify"]) if rows else []
    columns = (
        *("precision", "GB", "with KV", "prefill tok/s", "decode tok/s"),
        *(f"verify {n} ms" for n in batches),
        *("step alone s", "routed s"),
    )
    cells = [
        (
            *(r["precision"], f"{r['size_bytes'] / 1e9:.2f}", f"{r['memory_bytes'] / 1e9:.2f}"),
            *(f"{r['prefill_tokens'] / r['prefill_s']:.0f}", f"{1 / r['decode_s']:.1f}"),
            *(f"{1e3 * r['verify'][n]:.0f}" for n in batches),
            *(f"{r['step_s']:.2f}", _seconds(r["routed_s"])),
        )
        for r in rows
    ]
    return Sheet("What each precision would cost here", columns, cells)


def _cores(rows: Sequence[Row]) -> Sheet:
    columns = ("cores", "", "low tier", "low alone s", "high alone s", "routed s", "high/routed")
    cells = [
        (
            *(str(r["cores"]), "predicted" if r["predicted"] else "measured", r.get("low") or "-"),
            *(_seconds(r["low_s"]), _seconds(r["high_s"]), _seconds(r["routed_s"])),
            f"{r['high_s'] / r['routed_s']:.2f}" if r["routed_s"] else "",
        )
        for r in rows
    ]
    return Sheet("A step on other numbers of cores, with the best low tier", columns, cells, 3)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def advice_notes(data: Mapping[str, Any]) -> list[str]:
    """The advice, how far the estimates can be trusted, and what was assumed."""
    settings, load = data["settings"], data["machine"].get("load_average")
    notes = [settings["verdict"]]
    if told := settings.get("command"):
        notes.append(f"to do so: {told}")
    if load is not None and load > BUSY:
        notes.append(f"the machine was busy (load {load}): figures taken now are too low")
    checked = settings["checked"]
    if checked.get("precision"):
        estimated, measured = checked["decode_s"]
        read, took = checked["prefill_s"]
        notes.append(
            f"estimated from a few layers; all {settings['layers']} of {checked['precision']}:"
            f" a token decoded in {1e3 * measured:.1f} ms ({1e3 * estimated:.1f} estimated),"
            f" {settings['prefill']} prefilled in {took:.2f} s ({read:.2f} estimated)"
        )
    where = "given" if settings["bandwidth_given"] else "as copies on all threads measured it"
    notes.append(
        "predicted: computing is shared out among the cores, every call reads all weights at"
        f" {settings['bandwidth_gb']:.1f} GB/s ({where})"
    )
    notes.append(
        "speed is all that is measured: how good a precision is, convert measures; below four"
        " bits none is advised"
    )
    return notes
