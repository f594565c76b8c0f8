"""Make the ladder that behaves like a small one and costs what a large one does.

    folder = grow("household", "qwen3-1.7b", "low=q4_k_m,high=q8_0", tell)

It lies among the converted ladders, under the name HOUSEHOLD-as-SHAPE, so that every command
takes it with --model and `models rm` removes it. It is made once for its source and its types.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from edge_router.bench.growth import grown_metadata, grown_tensors
from edge_router.bench.sizes import BLOCK, Placement, Sizes
from edge_router.bench.synthetic import SHAPES, Shape
from edge_router.engine.gguf_file import read_header
from edge_router.engine.gguf_writer import NewTensor, file_bytes, write_gguf
from edge_router.engine.quantise import precisions, weight_types
from edge_router.engine.tier import TierSpec
from edge_router.engine.trust import gguf_sha256, ladder_fingerprint
from edge_router.errors import UserError
from edge_router.files.whole import free_bytes, gigabytes, make_folder, remove_leftovers, whole
from edge_router.ladders.ladder_file import (
    HANDOFF,
    LadderFile,
    TierEntry,
    read_details,
    set_router,
    write_ladder,
)
from edge_router.ladders.resolve import models_folder
from edge_router.router.spec import RouterSpec
from edge_router.work.progress import Progress, silent

MAKING: Final = 2  # another number makes grown ladders anew
DEFAULT_TYPES: Final = ("q4_k_m", "q8_0")  # of the low tier's layers, and the high one's
GROWABLE: Final = tuple(
    name for name, shape in SHAPES.items() if shape.width % BLOCK == 0 and name != "tiny"
)


@dataclass(frozen=True)
class Growth:
    """What a ladder is to become: its source, the shape, each tier's precision."""

    source: LadderFile
    shape: Shape
    types: tuple[str, ...]

    @property
    def name(self) -> str:
        usual = _usual_types([spec.name for spec in self.source.tiers])
        other = "" if self.types == usual else "-" + "-".join(self.types)
        return f"{self.source.name}-as-{self.shape.name}{other}"

    @property
    def described(self) -> LadderFile:
        """The ladder as it will be played, with the source's files, which are there already."""
        return replace(self.source, name=self.name, grown=self.told)

    @property
    def facts(self) -> dict[str, str | int]:
        """What ladder.toml says of it, by which it is known again."""
        return {
            "from": self.source.name,
            "grown": self.told,
            "key": ladder_fingerprint(self.source.tiers),
            "making": MAKING,
        }

    @property
    def told(self) -> str:
        """What a reader of its figures must know."""
        pairs = zip(self.source.tiers, self.types, strict=True)
        added = ", ".join(f"{spec.name} has {kind}" for spec, kind in pairs)
        return (
            f"{self.source.name} grown to the shape of {self.shape.name}, so the decisions are its"
            f" own and the seconds the shape's; {added}"
        )


def find_growth(model: LadderFile, shape: str, types: str | None) -> Growth:
    """What --as and --as-types ask for. Raises `UserError`."""
    if shape not in GROWABLE:
        raise UserError(f"there is no shape {shape!r} to grow to; shapes are {', '.join(GROWABLE)}")
    return Growth(model, SHAPES[shape], parse_types(types, [spec.name for spec in model.tiers]))


def parse_types(text: str | None, tiers: Sequence[str]) -> tuple[str, ...]:
    """Each tier's precision from "low=q4_k_m,high=q8_0", tiers by name or end. `UserError`."""
    chosen = dict(zip(tiers, _usual_types(tiers), strict=True))
    given = set[str]()
    ends = {"low": tiers[0], "high": tiers[-1]}
    for word in (w.strip() for w in (text or "").split(",") if w.strip()):
        tier, _, precision = word.partition("=")
        if precision not in precisions() or ends.get(tier, tier) not in chosen:
            raise UserError(
                f"--as-types wants TIER=PRECISION like low=q4_k_m,high=q8_0, not {word!r};"
                f" tiers are low, high, {', '.join(tiers)}, precisions {', '.join(precisions())}"
            )
        if ends.get(tier, tier) in given:
            raise UserError(f"--as-types {text}: {tier} is given twice; give each tier once")
        given.add(ends.get(tier, tier))
        chosen[ends.get(tier, tier)] = precision
    return tuple(chosen.values())


def _usual_types(tiers: Sequence[str]) -> tuple[str, ...]:
    """The default's low precision for all tiers but the high one."""
    return (*(DEFAULT_TYPES[0] for _ in tiers[:-1]), DEFAULT_TYPES[1])


def grow(growth: Growth, *, folder: Path | None = None, progress: Progress = silent) -> Path:
    """The folder of the grown ladder, made now if it is not there. Raises `UserError`."""
    place = folder or models_folder() / growth.name
    there = _details_of(place, growth)
    if there is not None:
        router = str(_router_beside(growth.source.router, place))  # it may be trained anew since
        suggested = there["ladder"].get("router", router), there["ladder"].get("kv", HANDOFF)
        if suggested != (router, growth.source.kv):
            set_router(place, router, kv=growth.source.kv)
        return place
    files = [_file_of(growth, i) for i in range(len(growth.types))]
    needed = sum(file_bytes(tensors) for _, tensors in files)
    free = free_bytes(place.absolute())
    if needed > free:
        raise UserError(
            f"{growth.name} needs {gigabytes(needed)} in {place}, where {gigabytes(free)} are free;"
            " make room, or set EDGE_ROUTER_HOME to another disk"
        )
    make_folder(place)
    step = progress(f"growing to {growth.shape.name}", len(files))
    entries = []
    for spec, (metadata, tensors) in zip(growth.source.tiers, files, strict=True):
        path = place / f"{growth.name}-{spec.name}.gguf"
        remove_leftovers(path)
        write_gguf(path, metadata, tensors)
        digest = gguf_sha256(path)
        entries.append(TierEntry(spec.name, path.name, digest, path.stat().st_size))
        step()
    ladder = {"name": growth.name, "prompt": growth.source.prompt}
    ladder["router"] = str(_router_beside(growth.source.router, place))
    if growth.source.kv != HANDOFF:
        ladder["kv"] = growth.source.kv
    write_ladder(place, {k: v for k, v in ladder.items() if v}, entries, source=growth.facts)
    return place


def _details_of(place: Path, growth: Growth) -> dict[str, Any] | None:
    """What ladder.toml says, if the ladder was made from these very files and is whole."""
    try:
        details = read_details(place)
    except UserError:
        return None
    same = details.get("source", {}) == growth.facts
    complete = same and all((place / tier["file"]).is_file() for tier in details["tier"])
    return details if complete else None


def _file_of(growth: Growth, tier: int) -> tuple[dict[str, bytes], list[NewTensor]]:
    """Metadata and tensors of a grown tier."""
    spec: TierSpec = growth.source.tiers[tier]
    header = read_header(spec.path)
    small = Sizes.of(header)
    placement = Placement(small, small.grown(growth.shape))
    types = weight_types(growth.types[tier], placement.large.columns)
    return grown_metadata(header, placement, growth.name), grown_tensors(header, placement, types)


def _router_beside(router: RouterSpec, place: Path) -> RouterSpec:
    """The router that the source suggests; its file, if any, is copied: ladders name their own."""
    if router.inner is not None:
        return router.around(_router_beside(router.inner, place))
    if router.file is None:
        return router
    target = place / router.file.name
    if not (target.is_file() and target.read_bytes() == router.file.read_bytes()):
        with whole(target) as partial:
            shutil.copyfile(router.file, partial)
    return RouterSpec(router.kind, target.name)
