"""Write ladder.toml, which `edge_router.ladders.ladder_file` reads: the one place that does.

    write_ladder(folder, {"name": "mine", "prompt": "react"}, entries)
    set_router(folder, "onnx:router.onnx")

The file appears whole. What is written over an older file of the same tiers keeps the router
that it named: a router is trained for weights, and these are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from edge_router.files.data_files import UnreadableError, read_toml
from edge_router.files.whole import write_text, writing
from edge_router.ladders.ladder_file import LADDER_FILE, read_ladder

Facts = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Measured:
    """Figures of a tier, and what they were taken on, for people."""

    facts: Facts
    comment: str = ""


@dataclass(frozen=True)
class TierEntry:
    """A tier as ladder.toml tells it; `file` counts from the ladder's folder."""

    name: str
    file: str
    sha256: str
    size_bytes: int
    facts: Facts = field(default_factory=dict)
    measured: Mapping[str, Measured] = field(default_factory=dict)  # by what it was measured on


def write_ladder(
    folder: Path,
    ladder: Mapping[str, str],
    tiers: Sequence[TierEntry],
    *,
    source: Facts | None = None,
) -> None:
    """Describe `tiers`, low to high. `ladder` holds name, prompt and, for new weights, router.

    Raises `UserError` when the file cannot be written.
    """
    document = tomlkit.document()
    kept = _router_of(folder, tiers)
    document["ladder"] = dict(ladder) | ({"router": kept} if kept else {})
    if source:
        document["source"] = dict(source)
    entries = tomlkit.aot()
    for tier in tiers:
        entries.append(_entry(tier))
    document["tier"] = entries
    _write(folder / LADDER_FILE, document)


def set_router(folder: Path, router: str) -> None:
    """Let the ladder in `folder` suggest `router`; the rest of the file stays as it is.

    Raises `UserError` when there is no ladder or the file cannot be written.
    """
    read_ladder(folder)
    document = tomlkit.parse((folder / LADDER_FILE).read_text(encoding="utf-8"))
    ladder: Any = document["ladder"]
    ladder["router"] = router
    _write(folder / LADDER_FILE, document)


def _router_of(folder: Path, tiers: Sequence[TierEntry]) -> str:
    """The router that the file in `folder` names for exactly these tiers, else ""."""
    try:
        data = read_toml(folder / LADDER_FILE, "a ladder")
        there = [(t["name"], t["sha256"]) for t in data["tier"]]
        router = data["ladder"].get("router", "")
    except (UnreadableError, LookupError, TypeError, AttributeError):
        return ""
    same = there == [(t.name, t.sha256) for t in tiers]
    return router if same and isinstance(router, str) else ""


def _entry(tier: TierEntry) -> Any:
    table = tomlkit.table()
    for key in ("name", "file", "sha256", "size_bytes"):
        table[key] = getattr(tier, key)
    for key, value in tier.facts.items():
        table[key] = value
    for kind, measured in tier.measured.items():
        figures = tomlkit.table()
        figures.update(measured.facts)
        if measured.comment:
            figures.comment(measured.comment)
        table[kind] = figures
    return table


def _write(path: Path, document: tomlkit.TOMLDocument) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, tomlkit.dumps(document))
