"""One self-contained HTML page out of a folder of results: tables, pictures, machines.

Everything is in the one file (pictures as inline SVG, no scripts, nothing is fetched), so it can
be mailed or put beside a paper.
"""

from __future__ import annotations

import html
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_router.bench.results import SCHEMA, read_results, write_text
from edge_router.bench.sheets import Sheet
from edge_router.bench.views import notes_of, sheets_of
from edge_router.errors import UserError

FAMILY: Final = SCHEMA.rpartition("/")[0]
_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) }
.table { overflow-x: auto } table { border-collapse: collapse; margin: .5rem 0 1.5rem }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
         white-space: nowrap; font-variant-numeric: tabular-nums }
th.text, td.text { text-align: left }
figure { margin: 0; background: #fff; border-radius: 6px } figure svg { width: 100%; height: auto }
.note { opacity: .8; margin: .2rem 0 } .machine { font-size: .85rem; opacity: .7 }
"""


@dataclass(frozen=True)
class Found:
    """A results file of the folder."""

    path: Path
    data: dict[str, Any]


def find_results(folder: Path) -> tuple[list[Found], list[Path]]:
    """The results in a folder, oldest first, and the JSON files that are something else.

    Raises UserError for a folder without results and for results of another version.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; report wants one with results (--json FILE)")
    results, others = [], []
    for path in sorted(folder.glob("*.json")):
        if _is_ours(path):
            results.append(Found(path, read_results(path)))
        else:
            others.append(path)
    if not results:
        raise UserError(f"{folder} holds no results; write some with bench ... --json FILE")
    return sorted(results, key=lambda found: str(found.data.get("created"))), others


def _is_ours(path: Path) -> bool:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and str(data.get("schema")).startswith(FAMILY)


def write_report(found: Sequence[Found], target: Path, *, pictures: bool) -> None:
    """Write the page, whole or not at all. Raises UserError."""
    write_text(target, "".join(_page(found, pictures)))


def _page(found: Sequence[Found], pictures: bool) -> Iterator[str]:
    yield "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
    yield "<meta name='viewport' content='width=device-width'>"
    yield f"<title>edge-router: results</title><style>{_STYLE}</style></head><body>"
    yield "<h1>edge-router: results</h1><ul>"
    for i, one in enumerate(found):
        yield f"<li><a href='#r{i}'>{html.escape(_title(one))}</a></li>"
    yield "</ul>"
    for i, one in enumerate(found):
        yield from _section(one, i, pictures)
    yield "</body></html>\n"


def _title(found: Found) -> str:
    settings = found.data["settings"]
    games = f", {settings['games']} games of {settings['split']}" if "split" in settings else ""
    return f"{found.data['kind']}: {settings.get('model', '')}{games} ({found.path.name})"


def _section(found: Found, index: int, pictures: bool) -> Iterator[str]:
    data = found.data
    yield f"<h2 id='r{index}'>{html.escape(_title(found))}</h2>"
    if pictures:
        yield f"<figure>{_picture(data, index)}</figure>"
    for sheet in sheets_of(data):
        yield from _table(sheet)
    for note in notes_of(data):
        yield f"<p class='note'>{html.escape(note)}</p>"
    machine = ", ".join(f"{key}: {value}" for key, value in data["machine"].items())
    told = f"{data.get('created')}, edge-router {data.get('version')}; {machine}"
    yield f"<p class='machine'>{html.escape(told)}</p>"


def _table(sheet: Sheet) -> Iterator[str]:
    yield f"<div class='table'><table><caption>{html.escape(sheet.title)}</caption>"
    yield _row(sheet.columns, "th", sheet.text_columns)
    for row in sheet.rows:
        yield _row(row, "td", sheet.text_columns)
    yield "</table></div>"


def _row(cells: Sequence[str], tag: str, text_columns: int) -> str:
    kinds = [" class='text'" if i < text_columns else "" for i in range(len(cells))]
    inner = (f"<{tag}{k}>{html.escape(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True))
    return f"<tr>{''.join(inner)}</tr>\n"


def _picture(data: Mapping[str, Any], index: int) -> str:
    """The plot as SVG to put into the page, with ids that no other picture has."""
    from edge_router.bench.plots import plot

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plot.svg"
        plot(data, path)
        svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>p{index}-", svg)
