"""What a ladder is asked for: each tier's name and file, and what the models run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

DEFAULT_CONTEXT: Final = 4096  # tokens: what an episode needs
AUTO: Final = "auto"
GpuLayers = int | Literal["auto"]  # -1 is all


@dataclass(frozen=True)
class TierSpec:
    """A tier to load: its name ("q4_k_m") and its GGUF, of one in parts the first.

    `sha256` is what the GGUF has to be, "" where nobody said; `shipped` files come with
    edge-router and need no trial.
    """

    name: str
    path: Path
    sha256: str = ""
    shipped: bool = False


@dataclass(frozen=True)
class ModelRuntime:
    """What the models run on; None follows the machine and the model."""

    threads: int | None = None
    gpu_layers: GpuLayers = AUTO
    ctx: int | None = None  # tokens
    no_opening_store: bool = False
