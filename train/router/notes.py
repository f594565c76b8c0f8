"""The notes that stages leave in a run's folder: one JSON file for each stage.

    {"schema": "edge-router/router-run/2", "ladder": ..., "tiers": [...], "kv": ..., ...}

Notes of version 1 name no schema. They are read as if written today: an
evaluation's rows have the form of `bench policies` now.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_router.errors import UserError
from edge_router.files.data_files import read_object

SCHEMA = "edge-router/router-run/2"


def read_note(folder: Path, stage: str) -> dict[str, Any] | None:
    """What a stage has left behind, None where it was not run. Raises UserError.

    A damaged file counts as none: the stage that wrote it has to be run again.
    """
    path = folder / f"{stage}.json"
    try:
        note = read_object(path, "the note of a stage")
    except UserError:
        return None
    if "schema" not in note:
        return _from_version_1(note)
    if note["schema"] != SCHEMA:
        raise UserError(
            f"{path} has the schema {note['schema']!r}, not {SCHEMA!r}: it was written by another"
            " version of edge-router; name another folder with --run"
        )
    return note


def _from_version_1(note: dict[str, Any]) -> dict[str, Any]:
    for table in note.get("tables", ()):
        for row in table["rows"]:
            row["row"] = row.pop("name").replace("dearest after", "high after")
            ends = (row.pop("success"), row.pop("success_low"), row.pop("success_high"))
            row["success"] = dict(zip(("value", "low", "high"), ends, strict=True))
            row["share"] = {"low": {"value": 1 - row.pop("share_dear")}}
    return {"schema": SCHEMA, **note}
