"""How many layers of each tier a GPU computes: all of them if they fit, the low tier's first.

A build of llama.cpp for CPUs alone offloads nothing. Elsewhere the devices are asked how much
memory is free, and each tier takes what its weights, its KV cache and llama.cpp's work space need.
The low tier comes first: it reads every token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from edge_router.engine.gguf_file import GgufHeader
from edge_router.engine.library import gpu_memory, offloads
from edge_router.engine.tier_sizes import kv_bytes
from edge_router.engine.tier_spec import AUTO, GpuLayers
from edge_router.errors import UserError

ALL: Final = -1
T = TypeVar("T")

# What a tier needs besides weights and KV: work space, which grows with vocabulary and batch, and
# what drivers keep for themselves.
_WORK: Final = 400_000_000
_SPARE: Final = 1.05


@dataclass(frozen=True)
class Need:
    """What one tier takes on a device."""

    layers: int  # without the output layer
    size_bytes: int
    kv_bytes: int

    @classmethod
    def of(cls, header: GgufHeader, n_ctx: int) -> Need:
        layers = header.metadata.get(f"{header.architecture}.block_count", "")
        return cls(
            int(layers) if layers.isdecimal() else 0, header.size_bytes, kv_bytes(header, n_ctx)
        )

    def fitting(self, free: int) -> int:
        """Layers that fit into `free` bytes, `ALL` if the whole tier does."""
        room = (free - _WORK) / _SPARE
        whole = self.size_bytes + self.kv_bytes
        if room >= whole:
            return ALL
        return max(0, min(self.layers, int(room / whole * (self.layers + 1))))

    def taken(self, layers: int) -> int:
        """Bytes that so many layers take."""
        if layers == 0:
            return 0
        share = 1.0 if layers == ALL else layers / (self.layers + 1)
        return _WORK + int(_SPARE * share * (self.size_bytes + self.kv_bytes))


def layers_that_fit(needs: Sequence[Need], free: int | None) -> list[int]:
    """Layers to offload of each tier, low to high; all where nobody knows how much is free."""
    if free is None:
        return [ALL] * len(needs)
    found = []
    for need in needs:
        layers = need.fitting(free)
        free -= need.taken(layers)
        found.append(layers)
    return found


def plan(asked: GpuLayers, headers: Sequence[GgufHeader], n_ctx: int) -> list[int]:
    """Layers to offload of each tier, low to high, as the user asked or as many as fit."""
    if not offloads():
        return [0] * len(headers)
    if asked != AUTO:
        return [asked] * len(headers)
    return layers_that_fit([Need.of(header, n_ctx) for header in headers], gpu_memory())


def with_fewer(
    load: Callable[[int], T], layers: int, need: Need, *, name: str
) -> tuple[T, list[str]]:
    """What `load` gives for `layers`, or for fewer where a device refuses them, with a sentence.

    Raises the `UserError` of `load` when it fails with none on a device as well.
    """
    asked = layers
    while True:
        try:
            loaded = load(layers)
        except UserError:
            if layers == 0:
                raise
            layers = (need.layers if layers == ALL else layers) // 2
            continue
        if layers == asked:
            return loaded, []
        where = f"{layers} of its {need.layers} layers" if layers else "none of its layers"
        return loaded, [f"{name} has {where} on the GPU, because more could not be loaded there"]
