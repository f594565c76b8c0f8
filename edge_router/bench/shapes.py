"""The ladder that a measurement is about: a real model's files, or random weights of its shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from edge_router.bench.synthetic import SHAPES, Shape, ladder_paths, write_random_ladder
from edge_router.engine.fingerprint import require_same_model
from edge_router.engine.gguf_file import read_header
from edge_router.engine.loading import untrained
from edge_router.engine.quantise import QUANTISED_TIERS
from edge_router.engine.tier import TierSpec
from edge_router.engine.tier_sizes import estimated_bytes
from edge_router.engine.trust import ladder_fingerprint
from edge_router.errors import UserError
from edge_router.files.folders import cache_folder
from edge_router.files.whole import free_bytes, gigabytes
from edge_router.ladders.resolve import require_context, resolve

DEFAULT_PRECISIONS: Final = ("q4_k_m", "q8_0")


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
    context: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Subject:
    """The ladder that --model, --tier or --shape stand for; a shape's files are made.

    Raises `UserError`, for a `context` that is too long too, before anything is made.
    """
    if shape is None:
        if precisions is not None:
            raise UserError("--precisions belongs to --shape; a model's tiers are its files")
        ladder = resolve(model, tiers)
        require_same_model([read_header(spec.path) for spec in ladder.tiers])
        require_context(context, ladder.tiers)
        return Subject(
            ladder.name or "given tiers", tuple(ladder.tiers), ladder_fingerprint(ladder.tiers)
        )
    if model is not None or tiers:
        raise UserError("--shape excludes --model and --tier; give one of them")
    found, wanted = find_shape(shape), known_precisions(precisions)
    if context > found.context:
        raise untrained(context, found.name, found.context)
    place = folder or cache_folder() / "synthetic"
    _require_room(found, place, wanted)
    if not all(path.is_file() for path in ladder_paths(found, place, wanted).values()):
        tell(f"writing {found.name} with random weights into {place}")
    try:
        paths = write_random_ladder(found, place, wanted, threads=threads, tell=tell)
    except OSError as error:
        raise UserError(f"{place} cannot take {found.name}: {error.strerror or error}") from error
    return Subject(found.name, tuple(TierSpec(name, path) for name, path in paths.items()))


def find_shape(name: str) -> Shape:
    """The shape of that name. Raises `UserError`."""
    if name not in SHAPES:
        near = get_close_matches(name, SHAPES, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(f"there is no shape {name!r}{hint}; shapes are {', '.join(SHAPES)}")
    return SHAPES[name]


def known_precisions(text: str | None) -> tuple[str, ...]:
    """Precisions joined by commas, by default a ladder's. Raises `UserError`."""
    if text is None:
        return DEFAULT_PRECISIONS
    wanted = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
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
    needed = sum(estimated_bytes(name, shape.parameters) for name in {*missing, "f16"})
    there = free_bytes(folder.absolute())
    if needed > there:
        raise UserError(
            f"{shape.name} with random weights needs {gigabytes(needed)} in {folder}, where"
            f" {gigabytes(there)} are free; make room, or set EDGE_ROUTER_HOME to another disk"
        )
