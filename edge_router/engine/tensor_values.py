"""The values of a GGUF's tensors, whatever type their blocks have: read here and nowhere else.

They are what llama.cpp computes with: ggml's own functions make them of the blocks.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.gguf_file import TensorInfo
from edge_router.engine.gguf_writer import row_bytes
from edge_router.engine.llama_quantise import dequantised

Values = NDArray[np.float32]


def tensor_values(tensor: TensorInfo) -> Values:
    """All values, rows first: of the shape `tensor.shape` backwards."""
    with tensor.file.open("rb") as file:
        file.seek(tensor.offset)
        data = file.read(tensor.n_bytes)
    shape = tuple(reversed(tensor.shape))
    return dequantised(tensor.type_name, data, int(np.prod(shape, dtype=np.int64))).reshape(shape)


def tensor_rows(tensor: TensorInfo, rows: Iterable[int]) -> Values:
    """Some rows of a matrix, (rows, columns)."""
    columns = tensor.shape[0]
    size = row_bytes(tensor.type_name, columns)
    found = []
    with tensor.file.open("rb") as file:
        for row in rows:
            file.seek(tensor.offset + row * size)
            found.append(dequantised(tensor.type_name, file.read(size), columns))
    return np.stack(found)
