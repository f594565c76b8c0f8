"""Derive the generator's tables from the official train split.

    ALFWORLD_DATA=... python -m train.lm.collect_facts

Counts only: how many cabinets a kitchen has, where mugs lie, which goals are
asked for. No game, layout or sentence is copied. Only the `train` split is
read, so everything generated from these tables may be trained on.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge_router.tasks.household.facts import FACTS_FILE, room_of
from edge_router.tasks.household.pddl import read_world
from edge_router.tasks.household.world import World, kind_of

PROPERTIES = (
    "pickupable", "cleanable", "heatable", "coolable", "toggleable", "sliceable", "container",
)  # fmt: skip


def histogram(rows: Iterable[Counter[str]], total: int) -> dict[str, list[int]]:
    """Per kind: how many games have 0, 1, 2, ... of it."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for row in rows:
        for kind, n in row.items():
            counts[kind][n] += 1
    table = {}
    for kind, seen in sorted(counts.items()):
        seen[0] = total - sum(seen.values())
        table[kind] = [seen[n] for n in range(max(seen) + 1)]
    return table


def collect(worlds: list[World]) -> dict[str, Any]:
    """The tables, as plain JSON data."""
    rooms: dict[str, Any] = {}
    for room in sorted({room_of(w.scene) for w in worlds}):
        inside = [w for w in worlds if room_of(w.scene) == room]
        rooms[room] = {
            "games": len(inside),
            "scenes": sorted({w.scene for w in inside}),
            "receptacles": histogram(
                (Counter(r.kind for r in w.receptacles.values()) for w in inside), len(inside)
            ),
            "items": histogram(
                (Counter(i.kind for i in w.items.values() if i.places) for w in inside),
                len(inside),
            ),
        }
    places: dict[str, Counter[str]] = defaultdict(Counter)
    offered: dict[str, Counter[str]] = defaultdict(Counter)
    pairs: Counter[str] = Counter()
    cool: Counter[str] = Counter()
    inside_of: Counter[str] = Counter()
    openable: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    shared, total = 0, 0
    goals: Counter[str] = Counter()
    properties: dict[str, list[str]] = {}
    can_contain: set[tuple[str, str]] = set()
    for w in worlds:
        goals[" ".join((w.goal.kind, room_of(w.scene), w.goal.object, w.goal.target))] += 1
        can_contain |= w.can_contain
        kinds = Counter(r.kind for r in w.receptacles.values())
        per_location = Counter(r.location for r in w.receptacles.values())
        shared += sum(n - 1 for n in per_location.values())
        total += len(w.receptacles)
        for r in w.receptacles.values():
            openable[r.kind][int(r.openable)] += 1
        for item in w.items.values():
            properties[item.kind] = [p for p in PROPERTIES if getattr(item, p)]
            for inner in item.contents:
                inside_of[f"{kind_of(inner)} {item.kind}"] += 1
            if not item.places:
                continue
            offered[item.kind].update(kinds)
            places[item.kind][kind_of(item.places[0])] += 1
            cool[item.kind] += item.cool
            if len(item.places) > 1:
                pairs[" ".join(map(kind_of, item.places[:2]))] += 1
    return {
        "rooms": rooms,
        "places": {k: dict(sorted(v.items())) for k, v in sorted(places.items())},
        "offered": {k: dict(sorted(v.items())) for k, v in sorted(offered.items())},
        "in_two": dict(sorted(pairs.items())),
        "inside": dict(sorted(inside_of.items())),
        "cool_at_start": {k: n for k, n in sorted(cool.items()) if n},
        "openable": dict(sorted(openable.items())),
        "shared_standpoint": round(shared / total, 4),
        "goals": dict(sorted(goals.items())),
        "properties": dict(sorted(properties.items())),
        "can_contain": sorted(map(list, can_contain)),
    }


def main() -> None:
    root = Path(os.environ["ALFWORLD_DATA"]) / "json_2.1.1" / "train"
    worlds = [read_world(path.parent) for path in sorted(root.glob("*/*/game.tw-pddl"))]
    FACTS_FILE.write_text(json.dumps(collect(worlds), indent=1) + "\n")
    print(f"{len(worlds)} train games -> {FACTS_FILE.name}")


if __name__ == "__main__":
    main()
