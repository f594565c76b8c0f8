"""What ALFWorld's rooms are like: tables counted over the official train split.

`facts.json` holds counts only and is rebuilt by `python -m train.lm.collect_facts`.
The generator draws rooms from it, the expert its order of search.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FACTS_FILE = Path(__file__).with_name("facts.json")
ROOMS = {0: "kitchen", 2: "living room", 3: "bedroom", 4: "bathroom"}


def room_of(scene: int) -> str:
    """AI2-THOR's numbering: 1-30 kitchens, 201-230 living rooms, 301-330, 401-430."""
    return ROOMS[scene // 100]


@cache
def facts() -> dict[str, Any]:
    """The tables as plain JSON data; see `train/lm/collect_facts.py` for their meaning."""
    data: dict[str, Any] = json.loads(FACTS_FILE.read_text())
    return data


@cache
def can_contain() -> frozenset[tuple[str, str]]:
    """(receptacle kind, item kind) pairs for which `move` is accepted."""
    return frozenset((place, item) for place, item in facts()["can_contain"])


@cache
def receptacle_kinds() -> tuple[str, ...]:
    return tuple(sorted(facts()["openable"]))


@cache
def item_kinds() -> tuple[str, ...]:
    return tuple(sorted(facts()["properties"]))


@cache
def search_order(kind: str) -> tuple[str, ...]:
    """Receptacle kinds, the most promising first, for an item of `kind`.

    The score is the chance to find one per step spent: sightings per receptacle
    (Laplace-smoothed, because 200 games are few) over its cost in steps, which
    is two where the receptacle has to be opened.
    """
    tables = facts()
    sightings = tables["places"].get(kind, {})
    offered = tables["offered"].get(kind, {})

    def score(place: str) -> float:
        closed, opened = tables["openable"][place]
        cost = 1.0 + opened / (closed + opened)
        prior = 0.05 if (place, kind) in can_contain() else 0.005
        return float((sightings.get(place, 0) + prior) / (offered.get(place, 0) + 1.0) / cost)

    return tuple(sorted(receptacle_kinds(), key=lambda place: (-score(place), place)))
