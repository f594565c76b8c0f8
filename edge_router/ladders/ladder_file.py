"""Read and write ladder.toml, which describes a ladder: its tiers and how it is played.

    [ladder]
    name = "household"
    prompt = "household"          # or "react": how the task is put to the model
    router = "onnx:router.onnx"   # what --router auto stands for; paths from this folder
    kv = "exact"                  # what --kv is where nobody says; "handoff" if left out

    [[tier]]                      # lowest first
    name = "q3_k_m"
    file = "household-q3_k_m.gguf"   # of a model in parts the first one
    sha256 = "..."                   # of all parts, one after another
    size_bytes = 2800000

The file may come from a stranger, so it is believed in nothing: types and keys are checked, and
no path in it may leave its folder.

    write_ladder(folder, {"name": "mine", "prompt": "react"}, entries)
    set_router(folder, "onnx:router.onnx", kv="exact")

It appears whole. What is written over an older file of the same tiers keeps the router and the KV
mode that it named: they were chosen for weights, and these are the same.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import tomlkit

from edge_router.engine.tier import KvMode, TierSpec
from edge_router.errors import UserError
from edge_router.files.data_files import UnreadableError, read_toml
from edge_router.files.paths import require_name, stays_inside
from edge_router.files.whole import whole, write_text, writing
from edge_router.ladders.catalogue import shipped_folders
from edge_router.router.spec import RouterSpec

LADDER_FILE: Final = "ladder.toml"
# For models nobody has trained a router for: a fifth of the steps, those of whose drafts the low
# tier is least sure. Up to the second step a token less probable than one half is what counts.
DEFAULT_ROUTER: Final = RouterSpec("budget", "0.2:draft:0.5")

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_TYPES: Final = {str: "a text", int: "a whole number", dict: "a table", list: "a list of tables"}
# What a table may hold; [source] may hold anything, of which `grown` alone is read.
_TOP: Final = {"ladder": dict, "source": dict, "tier": list}
_LADDER: Final = {"name": str, "prompt": str, "router": str, "kv": str}
HANDOFF: Final = str(KvMode())
_TIER: Final = {
    "name": str,
    "file": str,
    "sha256": str,
    "size_bytes": int,
    "imatrix": str,
    "tensors_of_another_type": int,
    "text": dict,
    "games": dict,
}


@dataclass(frozen=True)
class LadderFile:
    """A described ladder: its folder, its tiers (lowest first), and what it suggests."""

    name: str
    folder: Path
    tiers: tuple[TierSpec, ...]
    router: RouterSpec = DEFAULT_ROUTER
    prompt: str = ""  # the prompt style; "" is what the GGUF says
    kv: str = HANDOFF  # the KV mode where nobody asks for another
    grown: str = ""  # of a ladder grown to another model's shape: in words, to which


def read_ladder(folder: Path) -> LadderFile:
    """Read `folder/ladder.toml`. Raises `UserError` when it is not one."""
    details = read_details(folder)
    shipped = _is_shipped(folder)
    tiers = tuple(
        TierSpec(t["name"], folder / t["file"], t.get("sha256", ""), shipped)
        for t in details["tier"]
    )
    router = RouterSpec.parse(details["ladder"].get("router", str(DEFAULT_ROUTER)))
    return LadderFile(
        *(details["ladder"]["name"], folder, tiers, router.beside(folder)),
        prompt=details["ladder"].get("prompt", ""),
        kv=details["ladder"].get("kv", HANDOFF),
        grown=str(details.get("source", {}).get("grown", "")),
    )


def read_details(folder: Path) -> dict[str, Any]:
    """All that ladder.toml says, as it says it: checksums, sizes, what was measured."""
    path = folder / LADDER_FILE
    try:
        data = read_toml(path, "a ladder")
        _check(data, folder)
    except UnreadableError as error:
        raise UserError(f"{path} does not describe a ladder: {error.reason}") from error
    except UserError as error:
        raise UserError(f"{path} does not describe a ladder: {error}") from error
    return data


def _check(data: dict[str, Any], folder: Path) -> None:
    _check_table(data, _TOP, ("ladder", "tier"), "")
    _check_table(data["ladder"], _LADDER, ("name",), " in [ladder]")
    require_name(data["ladder"]["name"], "the ladder's name")
    KvMode.parse(data["ladder"].get("kv", HANDOFF))
    router = RouterSpec.parse(data["ladder"].get("router", ""))
    if router.file is not None:
        _require_inside(str(router.file), folder)
    if not data["tier"]:
        raise UserError("it names no tier")
    for number, tier in enumerate(data["tier"], 1):
        if not isinstance(tier, dict):
            raise UserError("'tier' has to be a list of tables: write [[tier]]")
        _check_table(tier, _TIER, ("name", "file"), f" in [[tier]] number {number}")
        require_name(tier["name"], "the tier's name")
        _require_inside(tier["file"], folder)
        if "sha256" in tier and not _SHA256.fullmatch(tier["sha256"]):
            raise UserError(f"the sha256 of {tier['name']} is not 64 hexadecimal digits")


def _check_table(
    table: dict[str, Any], known: Mapping[str, type], needed: tuple[str, ...], where: str
) -> None:
    for key in needed:
        if key not in table:
            raise UserError(f"{key!r} is missing{where}")
    for key, value in table.items():
        if key not in known:
            raise UserError(f"{key!r}{where} is not known; there are {', '.join(known)}")
        if type(value) is not known[key]:  # True is an int to isinstance
            hint = ": write [[tier]]" if key == "tier" else ""
            raise UserError(f"{key!r}{where} has to be {_TYPES[known[key]]}{hint}")


def _require_inside(path: str, folder: Path) -> None:
    """Shipped ladders may share files with their neighbours, others name their own alone."""
    inner = path.removeprefix("../") if _is_shipped(folder) else path
    if not stays_inside(inner):
        raise UserError(f"the file {path!r} does not lie in the ladder's own folder")


def _is_shipped(folder: Path) -> bool:
    return folder.resolve().parent in shipped_folders()


# -- writing --------------------------------------------------------------------------------------

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
    """Describe `tiers`, low to high. `ladder` holds name, prompt and, for new weights, router, kv.

    Raises `UserError` when the file cannot be written.
    """
    document = tomlkit.document()
    document["ladder"] = dict(ladder) | _suggested(folder, tiers)
    if source:
        document["source"] = dict(source)
    entries = tomlkit.aot()
    for tier in tiers:
        entries.append(_entry(tier))
    document["tier"] = entries
    _write(folder / LADDER_FILE, document)


def set_router(folder: Path, router: str, *, kv: str = HANDOFF) -> None:
    """Let the ladder in `folder` suggest `router` and `kv`; the rest of the file stays as it is.

    Raises `UserError` when there is no ladder or the file cannot be written.
    """
    read_ladder(folder)
    document = tomlkit.parse((folder / LADDER_FILE).read_text(encoding="utf-8"))
    ladder: Any = document["ladder"]
    ladder["router"] = router
    ladder.pop("kv", None)
    if kv != HANDOFF:
        ladder["kv"] = kv
    _write(folder / LADDER_FILE, document)


def adopt_router(folder: Path, router: Path, *, kv: str) -> None:
    """Copy a trained router into the ladder's folder and let the ladder suggest it, and `kv`.

    Raises `UserError` for a router of other tiers, and changes nothing then.
    """
    from edge_router.router.registry import make_router  # it brings onnxruntime

    names = tuple(tier.name for tier in read_ladder(folder).tiers)
    make_router(RouterSpec.trained(router)).reset(names, 0)
    with whole(folder / router.name) as partial:
        shutil.copyfile(router, partial)
    set_router(folder, str(RouterSpec("onnx", router.name)), kv=kv)


def _suggested(folder: Path, tiers: Sequence[TierEntry]) -> dict[str, str]:
    """The router and the KV mode that the file in `folder` names for exactly these tiers."""
    try:
        data = read_toml(folder / LADDER_FILE, "a ladder")
        there = [(t["name"], t["sha256"]) for t in data["tier"]]
        ladder = dict(data["ladder"])
    except (UnreadableError, LookupError, TypeError, ValueError):
        return {}
    if there != [(t.name, t.sha256) for t in tiers]:
        return {}
    return {k: v for k in ("router", "kv") if isinstance(v := ladder.get(k), str) and v}


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
