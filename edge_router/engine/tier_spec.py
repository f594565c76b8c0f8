"""What a ladder is asked for: one tier's name and file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_CONTEXT: Final = 4096  # tokens: what an episode needs


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
