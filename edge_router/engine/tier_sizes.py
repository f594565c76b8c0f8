"""How large a tier will be before it exists, and how many of its layers a GPU has room for.

llama.cpp mixes types within a tier (more bits for the output matrix and some
of the attention), so bits a weight are not those of the type in its name. The
figures are those of its own list for an 8B model, rounded up; a small model,
much of which is vocabulary, comes out a little larger still.

Beside its weights every tier that is loaded has a KV cache, `kv_bytes`.

A build of llama.cpp for CPUs alone offloads nothing. Elsewhere the devices are asked how much
memory is free, and each tier takes what its weights, its KV cache and llama.cpp's work space need.
The low tier comes first: it reads every token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from edge_router.engine.gguf_file import GgufHeader
from edge_router.engine.library import gpu_memory, offloads
from edge_router.engine.tier_spec import AUTO, GpuLayers
from edge_router.errors import UserError

BITS_A_WEIGHT: Final[Mapping[str, float]] = {
    "iq1_s": 2.0,
    "iq1_m": 2.2,
    "iq2_xxs": 2.4,
    "iq2_xs": 2.6,
    "iq2_s": 2.75,
    "iq2_m": 2.95,
    "q2_k": 3.2,
    "q2_k_s": 3.0,
    "iq3_xxs": 3.3,
    "iq3_xs": 3.5,
    "iq3_s": 3.7,
    "iq3_m": 3.8,
    "q3_k_s": 3.7,
    "q3_k_m": 4.1,
    "q3_k_l": 4.4,
    "iq4_xs": 4.5,
    "iq4_nl": 4.7,
    "q4_0": 4.7,
    "q4_1": 5.2,
    "q4_k_s": 4.8,
    "q4_k_m": 5.0,
    "q5_0": 5.7,
    "q5_1": 6.1,
    "q5_k_s": 5.7,
    "q5_k_m": 5.8,
    "q6_k": 6.7,
    "q8_0": 8.6,
    "f16": 16.1,
    "bf16": 16.1,
    "f32": 32.1,
}
_SMALL_MODEL: Final = 1.15  # vocabulary is kept at more bits, and some rows fit no K-quant
_METADATA: Final = 16_000_000  # the tokenizer of a large vocabulary


def estimated_bytes(tier: str, parameters: int) -> int:
    """Bytes of a tier's file, rather too many than too few."""
    bits = BITS_A_WEIGHT.get(tier, BITS_A_WEIGHT["f32"])
    return int(parameters * bits / 8 * _SMALL_MODEL) + min(_METADATA, parameters)


def kv_bytes(header: GgufHeader, n_ctx: int) -> int:
    """Bytes of an F16 KV cache of `n_ctx` tokens; 0 where the header does not tell."""
    kind = header.architecture

    def number(key: str) -> int:
        text = header.metadata.get(f"{kind}.{key}", "0")
        return int(text) if text.isdecimal() else 0

    heads = number("attention.head_count")
    usual = number("embedding_length") // heads if heads else 0
    widths = (number(f"attention.{key}_length") or usual for key in ("key", "value"))
    numbers = number("block_count") * (number("attention.head_count_kv") or heads) * sum(widths)
    return 2 * numbers * n_ctx


# -- layers on a GPU ------------------------------------------------------------------------------

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
