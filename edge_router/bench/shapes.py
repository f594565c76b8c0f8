"""The ladder that a measurement is about: a real model's files, or random weights of its shape."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from edge_router.bench.synthetic import SHAPES, Shape, ladder_paths, write_ladder
from edge_router.engine.fingerprint import require_same_model
from edge_router.engine.gguf_file import read_header
from edge_router.engine.quantise import QUANTISED_TIERS
from edge_router.engine.tier import TierSpec
from edge_router.errors import UserError
from edge_router.evaluate.jobs import ladder_fingerprint
from edge_router.files.folders import cache_folder
from edge_router.ladders.resolve import resolve

DEFAULT_PRECISIONS: Final = ("q4_k_m", "q8_0")
# Bits a weight, rounded up, to say beforehand what a file will take.
_BITS: Final = {"f16": 16.1, "q8_0": 8.6, "q6_k": 6.7, "q5_k_m": 6.0, "q5_k_s": 6.0, "q5_0": 6.0}
_OTHER_BITS: Final = 5.5


@dataclass(frozen=True)
class Subject:
    """What is measured: a name for people, the tiers, the ladder's fingerprint ("" if random)."""

    name: str
    tiers: tuple[TierSpec, ...]
    fingerprint: str = ""


def find_subject(
    model: str | None,
    tiers: Sequence[str],
    shape: str | None,
    precisions: str | None,
    *,
    folder: Path | None = None,
    threads: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Subject:
    """The ladder that --model, --tier or --shape stand for; a shape's files are made. UserError."""
    if shape is None:
        if precisions is not None:
            raise UserError("--precisions belongs to --shape; a model's tiers are its files")
        ladder = resolve(model, tiers)
        require_same_model([read_header(spec.path) for spec in ladder.tiers])
        return Subject(
            ladder.name or "given tiers", tuple(ladder.tiers), ladder_fingerprint(ladder.tiers)
        )
    if model is not None or tiers:
        raise UserError("--shape excludes --model and --tier; give one of them")
    found, wanted = _shape(shape), _precisions(precisions)
    place = folder or cache_folder() / "synthetic"
    _require_room(found, place, wanted)
    if not all(path.is_file() for path in ladder_paths(found, place, wanted).values()):
        tell(f"writing {found.name} with random weights into {place}")
    try:
        paths = write_ladder(found, place, wanted, threads=threads, tell=tell)
    except OSError as error:
        raise UserError(f"{place} cannot take {found.name}: {error.strerror or error}") from error
    return Subject(found.name, tuple(TierSpec(name, path) for name, path in paths.items()))


def _shape(name: str) -> Shape:
    if name not in SHAPES:
        near = get_close_matches(name, SHAPES, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(f"there is no shape {name!r}{hint}; shapes are {', '.join(SHAPES)}")
    return SHAPES[name]


def _precisions(text: str | None) -> tuple[str, ...]:
    if text is None:
        return DEFAULT_PRECISIONS
    wanted = tuple(word.strip() for word in text.split(",") if word.strip())
    for name in wanted:
        if name not in QUANTISED_TIERS:
            known = ", ".join(QUANTISED_TIERS)
            raise UserError(f"there is no precision {name!r}; precisions are {known}")
    if not wanted:
        raise UserError("--precisions names none")
    return wanted


def _require_room(shape: Shape, folder: Path, precisions: Sequence[str]) -> None:
    """Raise UserError before gigabytes are written to a disk that cannot hold them."""
    paths = ladder_paths(shape, folder, precisions)
    missing = [name for name, path in paths.items() if not path.is_file()]
    if not missing:
        return
    bits = sum(_BITS.get(name, _OTHER_BITS) for name in {*missing, "f16"})
    needed = int(shape.parameters * bits / 8)
    there = shutil.disk_usage(_existing(folder)).free
    if needed > there:
        raise UserError(
            f"{shape.name} with random weights needs {needed / 1e9:.1f} GB in {folder}, where"
            f" {there / 1e9:.1f} GB are free; make room, or set EDGE_ROUTER_HOME to another disk"
        )


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(f for f in (folder, *folder.parents) if f.is_dir())
