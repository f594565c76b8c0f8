"""One self-contained HTML page out of a folder of results: tables, pictures, machines.

Everything is in the one file (pictures as inline SVG, no scripts, nothing is fetched), so it can
be mailed or put beside a paper.
"""

from __future__ import annotations

import hashlib
import html
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_router.errors import UserError
from edge_router.files.whole import write_text
from edge_router.results.file import damage_named, read_results, require_writable
from edge_router.results.outputs import notes_of, sheets_of
from edge_router.results.plots import require_matplotlib
from edge_router.screen.printable import one_line, paragraphs, say, shortened
from edge_router.screen.tables import Sheet

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
class FoundResults:
    """A results file of the folder, with its part of the page."""

    path: Path
    data: dict[str, Any]
    section: str


def find_results(folder: Path, *, pictures: bool) -> tuple[list[FoundResults], list[str]]:
    """The results in a folder, oldest first, and a sentence about each file that is left out.

    Raises UserError for a folder without results that can be shown.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; report wants one with results (--json FILE)")
    results, left_out = list[FoundResults](), list[str]()
    for path in sorted(folder.glob("*.json")):
        try:
            data = read_results(path)
            results.append(FoundResults(path, data, _section(data, path.name, pictures)))
        except UserError as error:
            left_out.append(_about(path, str(error)))
    if not results:
        origin = f" ({'; '.join(left_out)})" if left_out else ""
        raise UserError(f"{folder} holds no results; write some with bench ... --json FILE{origin}")
    return sorted(results, key=lambda found: str(found.data.get("created"))), left_out


def _about(path: Path, reason: str) -> str:
    """Why a file is left out, with its name once."""
    reason = reason.replace(f"{path} ", "", 1)
    return f"{path.name} is left out: {shortened(one_line(reason), 300)}"


def write_report(found: Sequence[FoundResults], target: Path, *, notes: Sequence[str] = ()) -> None:
    """Write the page, whole or not at all; `notes` come first. Raises UserError."""
    write_text(target, "".join(_page(found, notes)))


def _page(found: Sequence[FoundResults], notes: Sequence[str]) -> Iterator[str]:
    yield "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
    yield "<meta name='viewport' content='width=device-width'>"
    yield f"<title>edge-router: results</title><style>{_STYLE}</style></head><body>"
    yield "<h1>edge-router: results</h1>"
    for note in notes:
        yield f"<p class='note'>{_text(note)}</p>"
    yield "<ul>"
    for one in found:
        yield f"<li><a href='#{_id(one.path.name)}'>{_text(_title(one.data, one.path.name))}</a>"
        yield "</li>"
    yield "</ul>"
    yield from (one.section for one in found)
    yield "</body></html>\n"


def _text(text: str) -> str:
    return html.escape(one_line(text))


def _id(name: str) -> str:
    """An id for the part of a file; two files of a folder have two names."""
    return f"r{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:12]}"


def _title(data: Mapping[str, Any], name: str) -> str:
    settings = data["settings"]
    games = f", {settings.get('games')} games of {settings['split']}" if "split" in settings else ""
    return f"{data['kind']}: {settings.get('model', '')}{games} ({name})"


def _section(data: Mapping[str, Any], name: str, pictures: bool) -> str:
    """The part of the page about one file. Raises UserError when the results are damaged."""
    with damage_named("the results"):
        return "".join(_parts(data, name, pictures))


def _parts(data: Mapping[str, Any], name: str, pictures: bool) -> Iterator[str]:
    yield f"<h2 id='{_id(name)}'>{_text(_title(data, name))}</h2>"
    if pictures:
        yield f"<figure>{_picture(data, _id(name))}</figure>"
    for sheet in sheets_of(data):
        yield from _table(sheet)
    for note in notes_of(data):
        yield f"<p class='note'>{_text(note)}</p>"
    machine = ", ".join(f"{key}: {value}" for key, value in data["machine"].items())
    origin = f"{data.get('created')}, edge-router {data.get('version')}; {machine}"
    yield f"<p class='machine'>{_text(origin)}</p>"


def _table(sheet: Sheet) -> Iterator[str]:
    yield f"<div class='table'><table><caption>{_text(sheet.title)}</caption>"
    yield _row(sheet.columns, "th", sheet.text_columns)
    for row in sheet.rows:
        yield _row(row, "td", sheet.text_columns)
    yield "</table></div>"


def _row(cells: Sequence[str], tag: str, text_columns: int) -> str:
    kinds = [" class='text'" if i < text_columns else "" for i in range(len(cells))]
    inner = (f"<{tag}{k}>{_text(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True))
    return f"<tr>{''.join(inner)}</tr>\n"


def _picture(data: Mapping[str, Any], prefix: str) -> str:
    """The plot as SVG to put into the page, with ids that no other picture has."""
    from edge_router.results.plots import plot

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plot.svg"
        plot(data, path)
        svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)


# -- the command ---------------------------------------------------------------------------------


def run_report(folder: Path, out: Path | None) -> int:
    """Write the page and say where, and what is not in it; returns the exit code."""
    notes = list[str]()
    try:
        require_matplotlib()
    except UserError as error:
        notes.append(f"the page has no pictures: {error}")
    target = out or folder / "report.html"
    if folder.is_dir():  # else the next line says that it is none
        require_writable(target)
    found, left_out = find_results(folder, pictures=not notes)
    notes += left_out
    write_report(found, target, notes=notes)
    for line in paragraphs(notes):
        say(line, err=True)
    say(f"{len(found)} results in {target}")
    return 0
