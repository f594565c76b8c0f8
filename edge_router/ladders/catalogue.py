"""The models that `edge-router models pull` knows by name.

`models/catalogue.toml` is data: where a checkpoint lies, under which licence,
and its dimensions. From these follow what has to be downloaded, how large a
ladder becomes and how much memory a pair of tiers takes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from edge_router.engine.tier_sizes import estimated_bytes
from edge_router.engine.tier_spec import DEFAULT_CONTEXT

FILE: Final = "catalogue.toml"


@dataclass(frozen=True)
class CatalogueModel:
    """A published checkpoint."""

    name: str
    repo: str  # on Hugging Face
    licence: str
    layers: int
    width: int
    ffn: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    tied: bool  # one matrix for embeddings and output
    recipe: bool = False  # it is made of a file there and an adapter here, by models/NAME
    base_bytes: int = 0  # of that file

    @property
    def parameters(self) -> int:
        """Matrices only; norms and biases are a thousandth of them."""
        attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
        block = attention + 3 * self.width * self.ffn
        return self.layers * block + self.vocabulary * self.width * (1 if self.tied else 2)

    @property
    def download_bytes(self) -> int:
        """The published checkpoints are BF16."""
        return self.base_bytes or 2 * self.parameters

    def tier_bytes(self, tier: str) -> int:
        return estimated_bytes(tier, self.parameters)

    def pair_memory_bytes(self, low: str, high: str) -> int:
        """Weights of two tiers, and a KV cache of `DEFAULT_CONTEXT` tokens in F16 for each."""
        cache_bytes = 2 * 2 * self.layers * self.kv_heads * self.head_width * DEFAULT_CONTEXT
        return self.tier_bytes(low) + self.tier_bytes(high) + 2 * cache_bytes


def shipped_folders() -> Iterator[Path]:
    """Where models that come with edge-router lie: a checkout's folder, an installed copy's."""
    here = Path(__file__).resolve().parent.parent
    yield here.parent / "models"
    yield here / "_models"


@cache
def catalogue() -> dict[str, CatalogueModel]:
    """The catalogue by name, in the order of the file."""
    for folder in shipped_folders():
        if (folder / FILE).is_file():
            data = tomllib.loads((folder / FILE).read_text(encoding="utf-8"))
            return {entry["name"]: CatalogueModel(**entry) for entry in data["model"]}
    return {}
