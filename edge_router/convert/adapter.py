"""A LoRA adapter in PEFT's format: what fine-tuning changed of a model, in a few megabytes.

    adapter = Adapter.open(Path("models/household-smol"))
    weights += adapter.change("model.layers.0.self_attn.q_proj.weight")

It is read with numpy alone, so that a ladder of a tuned model is made without PyTorch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.convert.architecture import PlannedTensor
from edge_router.errors import UserError
from edge_router.files.data_files import read_object
from edge_router.files.paths import why_no_file

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
