"""From what the user names to the tiers of a ladder.

`--model NAME` is an embedded ladder (`models/NAME/ladder.toml`) or one that
`edge-router convert` or `models pull` made, `--model DIR` a folder with a
`ladder.toml`, and `--tier NAME=PATH`, given for each tier and cheapest first,
any GGUFs.

    [ladder]
    name = "household"
    prompt = "household"          # or "react": how the task is put to the model
    router = "onnx:router.onnx"   # what --router auto stands for; paths from this folder

    [[tier]]                      # cheapest first
    name = "q3_k_m"
    file = "household-q3_k_m.gguf"
    sha256 = "..."
    size_bytes = 2800000
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_router.catalogue import catalogue, shipped_folders
from edge_router.engine.fingerprint import file_sha256
from edge_router.engine.tier import TierSpec
from edge_router.errors import UserError
from edge_router.folders import cache_folder, if_any

LADDER_FILE = "ladder.toml"
DEFAULT_MODEL = "household"
# For models nobody has tuned a router for: half a nat is the uncertainty between two tokens at
# 80 to 20 %.
DEFAULT_ROUTER = "entropy:0.5"


@dataclass(frozen=True)
class LadderFile:
    """A described ladder: its folder, its tiers (cheapest first), and the router it suggests."""

    name: str
    folder: Path
    tiers: tuple[TierSpec, ...]
    router: str = DEFAULT_ROUTER
    prompt: str = ""  # the prompt style; "" is what the GGUF says


def models_folder() -> Path:
    """The folder of the converted ladders, which may not be there."""
    return cache_folder() / "models"


def resolve(model: str | None, tiers: Sequence[str]) -> LadderFile:
    """The ladder that `--model` and `--tier` stand for. Raises UserError."""
    if tiers:
        if model is not None:
            raise UserError("--model and --tier exclude each other; give one of them")
        return LadderFile("", Path(), tuple(_tier_option(text) for text in tiers))
    return find_ladder(model or DEFAULT_MODEL)


def find_ladder(model: str) -> LadderFile:
    """A ladder by name (embedded, or made by `convert` or `models pull`), or one in a folder."""
    for folder in _named_folders():
        if folder.name == model:
            return read_ladder(folder)
    folder = Path(model)
    if folder.is_dir():
        if not (folder / LADDER_FILE).is_file():
            raise UserError(f"{folder} holds no {LADDER_FILE}; name GGUFs with --tier NAME=PATH")
        return read_ladder(folder)
    if folder.suffix == ".gguf":
        raise UserError(f"a single GGUF is no ladder; use --tier NAME={model} for each tier")
    if model in catalogue():
        raise UserError(f"{model} is not here yet; run: edge-router models pull {model}")
    here = ", ".join(model_names()) or "none is"
    raise UserError(
        f"there is no model {model!r}: it is neither a folder, nor a model that is here ({here}), "
        "nor one of the catalogue (edge-router models list)"
    )


def model_names() -> list[str]:
    """The names of the models that are here."""
    return [folder.name for folder in _named_folders()]


def embedded_ladders() -> Iterator[LadderFile]:
    """The ladders that come with the package."""
    for root in shipped_folders():
        yield from map(read_ladder, _ladder_folders(root))


def converted_folders() -> list[Path]:
    """Folders of the ladders in edge-router's own place; each is named as its model."""
    root = if_any(models_folder)
    return list(_ladder_folders(root)) if root else []


def _named_folders() -> Iterator[Path]:
    for root in shipped_folders():
        yield from _ladder_folders(root)
    yield from converted_folders()


def _ladder_folders(root: Path) -> Iterator[Path]:
    for file in sorted(root.glob(f"*/{LADDER_FILE}")):
        yield file.parent


def read_ladder(folder: Path) -> LadderFile:
    """Read `folder/ladder.toml`. Raises UserError when it is not one."""
    path = folder / LADDER_FILE
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        tiers = tuple(TierSpec(str(t["name"]), folder / str(t["file"])) for t in data["tier"])
        name = str(data["ladder"]["name"])
        router = str(data["ladder"].get("router", DEFAULT_ROUTER))
        prompt = str(data["ladder"].get("prompt", ""))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} does not describe a ladder: {reason}") from error
    if not tiers:
        raise UserError(f"{path} does not describe a ladder: it names no tier")
    return LadderFile(name, folder, tiers, _beside(folder, router), prompt)


def _beside(folder: Path, router: str) -> str:
    """A router's spec; a path in it counts from the ladder's folder."""
    kind, _, path = router.partition(":")
    return f"onnx:{folder / path}" if kind == "onnx" and path else router


def read_details(folder: Path) -> dict[str, Any]:
    """All that ladder.toml says, as `convert` wrote it: checksums, sizes, what was measured."""
    read_ladder(folder)
    details: dict[str, Any] = tomllib.loads((folder / LADDER_FILE).read_text(encoding="utf-8"))
    return details


def verify_files(folder: Path) -> None:
    """Raise `UserError` naming the first file that is not what ladder.toml says it is."""
    for tier in read_details(folder)["tier"]:
        path = folder / tier["file"]
        if not path.is_file():
            raise UserError(f"{path} is missing; convert or pull the model again")
        size, wanted = path.stat().st_size, tier.get("size_bytes")
        if wanted is not None and size != wanted:
            raise UserError(f"{path} has {size} bytes and ladder.toml says {wanted}")
        if file_sha256(path) != tier.get("sha256"):
            raise UserError(f"{path} is not the file that ladder.toml has the SHA-256 of")


def _tier_option(text: str) -> TierSpec:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise UserError(f"--tier wants NAME=PATH, cheapest first, not {text!r}")
    return TierSpec(name, Path(path))
