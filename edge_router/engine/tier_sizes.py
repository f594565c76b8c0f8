"""How large a tier will be before it exists, for disk-space checks and for people.

llama.cpp mixes types within a tier (more bits for the output matrix and some
of the attention), so bits a weight are not those of the type in its name. The
figures are those of its own list for an 8B model, rounded up; a small model,
much of which is vocabulary, comes out a little larger still.

Beside its weights every tier that is loaded has a KV cache, `kv_bytes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge_router.engine.gguf_file import GgufHeader

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
