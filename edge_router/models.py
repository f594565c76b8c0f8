"""From what the user names to the tiers of a ladder.

`--model NAME` is an embedded ladder (`models/NAME/ladder.toml`), `--model DIR`
a folder with a `ladder.toml`, and `--tier NAME=PATH`, given for each tier and
cheapest first, any GGUFs.

    [ladder]
    name = "household"
    prompt = "household"
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

from edge_router.engine.tier import TierSpec
from edge_router.errors import UserError

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


def resolve(model: str | None, tiers: Sequence[str]) -> LadderFile:
    """The ladder that `--model` and `--tier` stand for. Raises UserError."""
    if tiers:
        if model is not None:
            raise UserError("--model and --tier exclude each other; give one of them")
        return LadderFile("", Path(), tuple(_tier_option(text) for text in tiers))
    return find_ladder(model or DEFAULT_MODEL)


def find_ladder(model: str) -> LadderFile:
    """An embedded ladder by its name, or one in a folder."""
    embedded = {ladder.name: ladder for ladder in embedded_ladders()}
    if model in embedded:
        return embedded[model]
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / LADDER_FILE).is_file():
            raise UserError(f"{folder} holds no {LADDER_FILE}; name GGUFs with --tier NAME=PATH")
        return read_ladder(folder)
    if folder.suffix == ".gguf":
        raise UserError(f"a single GGUF is no ladder; use --tier NAME={model} for each tier")
    raise UserError(
        f"there is no model {model!r}: it is neither a folder nor an embedded model "
        f"({', '.join(embedded) or 'none is installed'})"
    )


def embedded_ladders() -> Iterator[LadderFile]:
    """The ladders that come with the package."""
    here = Path(__file__).resolve().parent
    for root in (here.parent / "models", here / "_models"):
        for file in sorted(root.glob(f"*/{LADDER_FILE}")):
            yield read_ladder(file.parent)


def read_ladder(folder: Path) -> LadderFile:
    """Read `folder/ladder.toml`. Raises UserError when it is not one."""
    path = folder / LADDER_FILE
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        tiers = tuple(TierSpec(str(t["name"]), folder / str(t["file"])) for t in data["tier"])
        name = str(data["ladder"]["name"])
        router = str(data["ladder"].get("router", DEFAULT_ROUTER))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} does not describe a ladder: {reason}") from error
    if not tiers:
        raise UserError(f"{path} does not describe a ladder: it names no tier")
    return LadderFile(name, folder, tiers, _beside(folder, router))


def _beside(folder: Path, router: str) -> str:
    """A router's spec; a path in it counts from the ladder's folder."""
    kind, _, path = router.partition(":")
    return f"onnx:{folder / path}" if kind == "onnx" and path else router


def _tier_option(text: str) -> TierSpec:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise UserError(f"--tier wants NAME=PATH, cheapest first, not {text!r}")
    return TierSpec(name, Path(path).expanduser())
