"""The results file of a benchmark, whole or not there at all, and how it is read back.

    {"schema": "edge-router/bench/2", "kind": "policies", "created": ..., "version": ...,
     "machine": {...}, "settings": {...}, "tables": {"policies": [{...}, ...]}}

Every table is a list of flat or nested objects; an estimate is {"value", "low", "high"} with a
95 % interval. What is printed, drawn or put into a report is made from these data alone.

Schema 1 called the low tier cheap, prefilling reading and decoding writing; `read_results` renames
what it finds there.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from edge_router import __version__
from edge_router.errors import UserError
from edge_router.files.data_files import read_json, require_regular_or_new
from edge_router.files.whole import write_text
from edge_router.results.machine import machine_details

SCHEMA: Final = "edge-router/bench/2"
_RENAMED: Final = {
    "edge-router/bench/1": {
        "cheap_prefill_ms": "low_prefill_ms",
        "read_s": "prefill_s",
        "write_s": "decode_s",
        "tokens_written": "decoded_tokens",
        "tokens_read": "prefilled_tokens",
    }
}
Row = Mapping[str, Any]  # of a table
Table = Sequence[Row]
Data = Mapping[str, Any]  # a whole file


def results(
    kind: str, settings: Mapping[str, Any], tables: Mapping[str, Table], *, threads: int
) -> dict[str, Any]:
    """Results as plain data, with the machine they were taken on."""
    return {
        "schema": SCHEMA,
        "kind": kind,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "machine": machine_details(threads),
        "settings": dict(settings),
        "tables": {name: list(rows) for name, rows in tables.items()},
    }


def read_results(path: Path) -> dict[str, Any]:
    """Read a results file, an older one under its new names.

    Raises UserError when it is none that this version knows, or damaged.
    """
    data = read_json(path, "results")
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA and not (isinstance(schema, str) and schema in _RENAMED):
        found = f"its schema is {schema!r}" if schema else "it names no schema"
        raise UserError(f"{path} holds no results of this version ({found}, not {SCHEMA!r})")
    if not all(isinstance(data.get(k), dict) for k in ("machine", "settings", "tables")):
        raise UserError(f"{path} holds damaged results: machine, settings or tables are missing")
    for name, table in data["tables"].items():
        if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
            raise UserError(f"{path} holds damaged results: the table {name} is no list of rows")
    return _renamed(data)


def _renamed(data: dict[str, Any]) -> dict[str, Any]:
    """The results with the columns that were renamed since they were written."""
    new = _RENAMED.get(data["schema"], {})
    tables = {
        name: [{new.get(column, column): cell for column, cell in row.items()} for row in rows]
        for name, rows in data["tables"].items()
    }
    return data | {"schema": SCHEMA, "tables": tables}


@contextmanager
def damage_named(what: str) -> Iterator[None]:
    """Turn what a missing or wrong value in results leads to into a `UserError` about `what`."""
    try:
        yield
    except KeyError as error:
        raise UserError(f"{what} are damaged: {error} is missing") from error
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UserError(f"{what} are damaged: {error}") from error
    except RecursionError as error:
        raise UserError(f"{what} are damaged: they are nested too deeply") from error


def write_json(path: Path, data: Any) -> None:
    """Write `data` to `path` under another name first. Raises UserError."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def write_csv(path: Path, data: Mapping[str, Any]) -> None:
    """All tables of the results in one CSV file: nested names joined by dots, a column `table`.

    The machine comes first, as comments, so that the numbers are never without it.
    """
    rows = [{"table": name, **flat(row)} for name, table in data["tables"].items() for row in table]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    for key, value in data["machine"].items():
        out.write(f"# {key}: {value}\n")
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, out.getvalue())


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects with their keys joined by dots; lists are left out."""
    cells: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            cells |= flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list | tuple):
            cells[f"{prefix}{key}"] = value
    return cells


def require_writable(path: Path) -> None:
    """Raise UserError before a long run when its results could not be written."""
    require_regular_or_new(path, "the file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path} cannot be written: make the folder {path.parent} first")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise UserError(f"{path} cannot be written: permission denied")
