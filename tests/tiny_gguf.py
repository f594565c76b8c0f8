"""Tiny random-weight GGUFs for tests: every part of llama.cpp is real, only the model is small.

256 wide and 2 layers deep (K-quants need rows of 256), with a byte-level
vocabulary that reads and writes any text. A file takes well under a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_router.bench.synthetic import SHAPES, Shape, write_random_f16
from edge_router.engine.quantise import quantise

TINY_QWEN3 = SHAPES["tiny"]
TINY_LLAMA = replace(TINY_QWEN3, name="tiny-llama", architecture="llama")
TIERS = ("q3_k_m", "q4_k_m", "q8_0")  # low to high


def write_tiny(folder: Path, shape: Shape = TINY_QWEN3, *, seed: int = 0) -> Path:
    """The F16 GGUF of `shape` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_random_f16(shape, folder / f"{shape.name}-{seed}-f16.gguf", seed=seed)


def write_tiny_ladder(
    folder: Path, shape: Shape = TINY_QWEN3, tiers: Sequence[str] = TIERS, *, seed: int = 0
) -> dict[str, Path]:
    """`shape` at every precision of `tiers` ("f16" is the unquantised file)."""
    full = write_tiny(folder, shape, seed=seed)
    paths = {}
    for tier in tiers:
        paths[tier] = full if tier == "f16" else folder / f"{shape.name}-{seed}-{tier}.gguf"
        if tier != "f16":
            quantise(full, paths[tier], tier, threads=1)
    return paths
