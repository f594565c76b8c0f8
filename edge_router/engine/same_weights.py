"""Tell whether quantised matrices come from one checkpoint, by how far apart they lie.

A LoRA adapter leaves the norms as they were, so equal norms do not prove that two files are
builds of one checkpoint. Two builds of one matrix differ by what quantising did to each, and that
is known: a few rows are quantised at the other file's type, and what this changes is what may be
found between the two files.

On SmolLM2-135M-Instruct the matrix that differs most does so by at most 1.1 times what quantising
explains between builds of one checkpoint, and by 1.6 and more between builds of four bits and up of
it and of a model fine-tuned from it with LoRA. docs/convert.md has the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.gguf_file import EMBEDDING, GgufHeader, TensorInfo
from edge_router.engine.llama_quantise import requantised
from edge_router.engine.tensor_values import tensor_rows

MOST: Final = 1.5  # times what quantising explains
_MATRICES: Final = 64  # that are looked at, of a model that has more
_ROWS: Final = 4  # of each
_LARGE: Final = 1000
_FLOOR: Final = 2.0**-9  # of a row: the rounding of a file that was BF16 on its way
# Part of the root mean square of normal numbers that quantising them changes, columns alike.
_NOISE: Final = {
    "Q8_0": 0.005,
    "Q6_K": 0.017,
    "Q5_K": 0.036,
    "Q5_1": 0.034,
    "Q5_0": 0.041,
    "Q4_1": 0.070,
    "Q4_K": 0.071,
    "IQ4_NL": 0.075,
    "IQ4_XS": 0.076,
    "Q4_0": 0.082,
    "IQ3_S": 0.137,
    "Q3_K": 0.145,
    "IQ3_XXS": 0.182,
    "IQ2_S": 0.249,
    "Q2_K": 0.268,
    "IQ2_XS": 0.301,
    "IQ2_XXS": 0.344,
    "IQ1_M": 0.453,
    "IQ1_S": 0.487,
}
# llama.cpp's number of a file's precision -> the type of most of its matrices
_FILE_TYPES: Final = {
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q3_K",
    13: "Q3_K",
    14: "Q4_K",
    15: "Q4_K",
    16: "Q5_K",
    17: "Q5_K",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K",
    22: "IQ3_S",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_S",
    28: "IQ2_S",
    29: "IQ2_S",
    30: "IQ4_XS",
    31: "IQ1_M",
}

Rows = NDArray[np.float32]


def weight_differences(a: GgufHeader, b: GgufHeader) -> Iterator[str]:
    """A sentence where the matrices of two files with the same tensors are not of one checkpoint.

    Reads a few rows of some matrices, evenly spread.
    """
    least = _least_noise(a), _least_noise(b)
    found = {name: _ratio(one, other, least) for name, one, other in _pairs(a, b)}
    name = max(found, key=lambda name: found[name], default="")
    if name and found[name] > MOST:
        times = f"{found[name]:.1f}" if found[name] < _LARGE else f"over {_LARGE}"
        yield (
            "their weights come from different checkpoints"
            f" (tensor {name} differs by {times} times what quantising explains)"
        )


def _least_noise(header: GgufHeader) -> float:
    """That of the precision that a file says it has; its blocks may be of a finer type.

    They are where rows do not fit the type, and where a file was written anew in another one.
    """
    said = header.metadata.get("general.file_type", "")
    return _NOISE.get(_FILE_TYPES.get(int(said), ""), 0.0) if said.isdecimal() else 0.0


def _pairs(a: GgufHeader, b: GgufHeader) -> list[tuple[str, TensorInfo, TensorInfo]]:
    """Matrices that ought to be the same; an output matrix that one lacks is its embedding."""
    pairs = []
    for name in dict.fromkeys([*a.tensors, *b.tensors]):
        one, other = (of.tensors.get(name, of.tensors.get(EMBEDDING)) for of in (a, b))
        if one is None or other is None:
            continue
        if len(one.shape) == 2:
            pairs.append((name, one, other))
    step = max(1, len(pairs) // _MATRICES)
    return pairs[::step]


def _ratio(one: TensorInfo, other: TensorInfo, least: tuple[float, float]) -> float:
    """How far apart, as a multiple of what quantising explains; 0 where nobody knows that."""
    x, y = _rows(one), _rows(other)
    noise = _noise(y, one.type_name, least[0]), _noise(x, other.type_name, least[1])
    apart = _root_mean_square(x - y)
    return apart / float(np.hypot(*noise)) if apart else 0.0


def _rows(tensor: TensorInfo) -> Rows:
    """(rows, columns): a few rows, evenly spread."""
    count = tensor.shape[1]
    return tensor_rows(tensor, range(0, count, max(1, count // _ROWS))[:_ROWS])


def _noise(rows: Rows, type_name: str, least: float) -> float:
    """Root mean square of what quantising at `type_name` changes in rows like these.

    At least the part `least` of their own; infinite for types of which it is not known.
    """
    size = _root_mean_square(rows)
    # Values that lie on the type's own grid would come back as they are, so they are moved off it.
    moved = rows + np.float32(size / 10) * _normal(rows.shape)
    back = requantised(type_name, moved)
    # For the others ggml wants tables that take seconds to make.
    known = (
        _NOISE.get(type_name, np.inf) * size if back is None else _root_mean_square(back - moved)
    )
    return max(float(np.hypot(known, _FLOOR * size)), least * size)


def _normal(shape: tuple[int, ...]) -> Rows:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _root_mean_square(values: Rows) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))
