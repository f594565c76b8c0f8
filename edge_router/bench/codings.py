"""Hold a weight in another type, nearly exactly: what one coding leaves over is coded beside it.

A grown model has far more columns than the small one. So its weights can have the type of the
shape that it stands for, and that type's speed, without losing what the small one says: three
codings of the same columns lie side by side, each of what those before it left over, and the
inputs are there three times. What is left after the third, of IQ1_S, IQ2_XXS and Q2_K weights
(root mean square, relative): 6e-6 to 4e-4 as Q4_0, IQ4_NL, Q4_K or Q6_K.
"""

from __future__ import annotations

from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.gguf_file import TensorInfo
from edge_router.engine.llama_quantise import dequantised, quantised

CODINGS: Final = 3
# Types that three codings make nearly exact. Coarser ones stay coarse, and most of those need an
# importance matrix; weights that were to have one keep the type that they have.
_SHORT: Final = frozenset(("F16", "Q4_0", "Q4_1", "IQ4_NL", "Q5_0", "Q5_1", "Q8_0"))
FINE: Final = _SHORT | {"Q3_K", "Q4_K", "IQ4_XS", "Q5_K", "Q6_K"}
# Types with blocks of 32 that cost about as much as those with blocks of 256.
_SHORT_BLOCKS: Final = {"Q3_K": "Q4_0", "Q4_K": "Q4_0", "IQ4_XS": "IQ4_NL", "Q5_K": "Q5_0"}


def type_to_hold(old: TensorInfo, wanted: str, *, whole_rows: bool) -> str:
    """The type that a weight gets where `wanted` is asked for.

    Without whole rows a coding lies in pieces of a head's width each, for which a block of 256
    columns is too long.
    """
    kind = wanted if wanted in FINE else old.type_name
    return kind if whole_rows or kind in _SHORT else _SHORT_BLOCKS.get(kind, "Q8_0")


def coded(old: TensorInfo, type_name: str) -> list[NDArray[np.uint8]]:
    """The weight's codings in `type_name`, each (rows, bytes): one in its own type, else three."""
    data = np.fromfile(old.file, np.uint8, old.n_bytes, offset=old.offset)
    blocks = data.reshape(old.shape[1], -1)
    if type_name == old.type_name:
        return [blocks]
    left = dequantised(old.type_name, data.tobytes(), prod(old.shape)).reshape(len(blocks), -1)
    parts = []
    for _ in range(CODINGS):
        parts.append(quantised(type_name, left))
        left = left - dequantised(type_name, parts[-1].tobytes(), left.size).reshape(left.shape)
    return parts
