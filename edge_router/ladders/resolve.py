"""From what the user names to the tiers of a ladder.

`--model NAME` is an embedded ladder (`models/NAME/ladder.toml`) or one that
`edge-router convert` or `models pull` made, `--model DIR` a folder with a
`ladder.toml`, and `--tier NAME=PATH`, given for each tier and lowest first,
any GGUFs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_router.engine.gguf_file import is_gguf, read_header
from edge_router.engine.loading import trained_context, untrained
from edge_router.engine.tier import TierSpec
from edge_router.engine.trust import gguf_sha256
from edge_router.errors import UserError
from edge_router.files.folders import cache_folder, if_any
from edge_router.files.paths import is_folder, require_name, why_no_file
from edge_router.ladders.catalogue import catalogue, shipped_folders
from edge_router.ladders.ladder_file import LADDER_FILE, LadderFile, read_details, read_ladder
from edge_router.ladders.scores import begin
from edge_router.router.base import Router
from edge_router.router.budget import BudgetRouter
from edge_router.router.registry import make_router
from edge_router.router.spec import AUTO, RouterSpec

DEFAULT_MODEL = "household"


@dataclass(frozen=True)
class PlannedLadder:
    """A ladder that may have to be made first, which can take minutes and gigabytes.

    `described` is known at once: what is right or wrong for it is so for the made one.
    """

    described: LadderFile
    make: Callable[[], LadderFile] | None = None

    def made(self) -> LadderFile:
        """The ladder itself: made now, or there already. Raises `UserError`."""
        return self.make() if self.make else self.described


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
    if is_folder(folder):
        wrong = why_no_file(folder / LADDER_FILE)
        if wrong == "does not exist":
            raise UserError(f"{folder} holds no {LADDER_FILE}; name GGUFs with --tier NAME=PATH")
        return read_ladder(folder)
    if is_gguf(folder) or folder.suffix.lower() == ".gguf":
        raise UserError(f"a single GGUF is no ladder; use --tier NAME={model} for each tier")
    if not why_no_file(folder):
        raise UserError(f"{folder} is a file; --model wants a name or a folder with {LADDER_FILE}")
    if model in catalogue():
        raise UserError(f"{model} is not here yet; run: edge-router models pull {model}")
    if model.startswith("hf:"):
        raise UserError(
            f"{model} has to be fetched first: edge-router models pull {model} --files q4_k_m,q8_0"
        )
    here = ", ".join(model_names()) or "none is"
    shown = model if len(model) < 100 else f"{model[:100]}..."
    raise UserError(
        f"there is no model {shown!r}: it is neither a folder, nor a model that is here ({here}), "
        "nor one of the catalogue (edge-router models list)"
    )


def router_for(ladder: LadderFile, spec: str = AUTO, budget: float | None = None) -> Router:
    """The router that `spec` names; "auto" is the one that the ladder suggests,
    in a budget ("budget:0.2:auto") too.

    `budget` holds it to that share of the steps; a budget begins with the scores that are known
    of this ladder. Raises `UserError`; what is wrong with a suggested router lies in ladder.toml,
    and is said so.
    """
    router = _named_router(ladder, spec)
    if budget is not None:
        router = BudgetRouter(router, budget)
    begin(router, ladder)
    return router


def _named_router(ladder: LadderFile, spec: str) -> Router:
    asked = RouterSpec.parse(spec)
    if asked != RouterSpec(AUTO):
        return make_router(asked.with_auto(ladder.router))
    try:
        return make_router(ladder.router)
    except UserError as error:
        raise UserError(f"{ladder.folder / LADDER_FILE} suggests a router: {error}") from error


def model_names() -> list[str]:
    """The names of the models that are here."""
    return [folder.name for folder in _named_folders()]


def require_free_name(name: str) -> str:
    """`name`, fit for a new model beside the embedded ones. Raises `UserError`."""
    require_name(name, "the name")
    for root in shipped_folders():
        for folder in _ladder_folders(root):
            if folder.name.casefold() == name.casefold():  # one folder on macOS
                raise UserError(
                    f"{folder.name} is the name of a model that comes with edge-router; "
                    "give another one with --name"
                )
    return name


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


def require_context(tokens: int, specs: Sequence[TierSpec]) -> None:
    """Raise `UserError`, before anything is loaded, for a context that no tier was trained for."""
    for spec in specs:
        trained = trained_context(spec)
        if tokens > trained:
            raise untrained(tokens, spec.path.name, trained)


def verify_files(folder: Path) -> None:
    """Raise `UserError` naming the first file that is not what ladder.toml says it is."""
    for tier in read_details(folder)["tier"]:
        path = folder / tier["file"]
        if why_no_file(path) == "does not exist":
            raise UserError(f"{path} is missing; convert or pull the model again")
        size, wanted = gguf_bytes(path), tier.get("size_bytes")
        if wanted is not None and size != wanted:
            raise UserError(f"{path} has {size} bytes and ladder.toml says {wanted}")
        if "sha256" not in tier:
            raise UserError(f"ladder.toml has no SHA-256 of {path}, so it cannot be compared")
        if gguf_sha256(path, remembered=False) != tier["sha256"]:
            raise UserError(f"{path} is not the file that ladder.toml has the SHA-256 of")


def gguf_bytes(path: Path) -> int:
    """Bytes of all parts; of a file that was cut off its own, which says more."""
    try:
        return read_header(path).size_bytes
    except UserError:
        return path.stat().st_size


def _tier_option(text: str) -> TierSpec:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise UserError(f"--tier wants NAME=PATH, lowest first, not {text!r}")
    return TierSpec(require_name(name, "the tier's name"), Path(path))
