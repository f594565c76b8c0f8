"""Models whose weights are all zero: what they compute is nothing, what it takes is the truth.

No kernel looks at a weight before it multiplies, and on most disks a file of zeros is a hole.
Taken in turn with random weights (4 layers of qwen3-0.6b, one thread, a busy machine), zeros
prefilled in 1.00 and 1.04 of the time and decoded in 0.90 (q4_k_m) and 0.95 (q8_0) of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from edge_router.bench.synthetic import Shape
from edge_router.engine.gguf_file import EMBEDDING
from edge_router.engine.gguf_writer import (
    NewTensor,
    f32,
    file_bytes,
    float_vector,
    row_bytes,
    text,
    u32,
    write_gguf,
)
from edge_router.engine.quantise import (
    WeightColumns,
    matrix_sizes,
    plain_vocabulary,
    weight_types,
)

FEW_TOKENS = 256  # a vocabulary whose output matrix costs nothing


def columns_of(shape: Shape) -> WeightColumns:
    query = shape.heads * shape.head_width
    return WeightColumns(shape.layers, shape.width, query, shape.ffn, shape.heads, shape.kv_heads)


def chosen_types(shape: Shape, precision: str, layers: int) -> dict[str, str]:
    """The types of a model of a few layers: those of layers spread evenly over all of them."""
    whole = weight_types(precision, columns_of(shape))
    names = {EMBEDDING: whole[EMBEDDING]}
    for few in range(layers):
        at = (2 * few + 1) * shape.layers // (2 * layers)
        start = f"blk.{at}."
        names |= {
            f"blk.{few}.{name.removeprefix(start)}": kind
            for name, kind in whole.items()
            if name.startswith(start)
        }
    return names


def layer_bytes(shape: Shape, types: Mapping[str, str]) -> int:
    """Bytes of the layers' matrices at `types`."""
    return sum(_bytes_of(_dims(shape, name), kind) for name, kind in types.items()
               if name != EMBEDDING)  # fmt: skip


def output_bytes(shape: Shape, types: Mapping[str, str]) -> int:
    """Bytes of the embeddings, which are the output matrix as well."""
    return _bytes_of((shape.width, shape.vocabulary), types[EMBEDDING])


def _bytes_of(dims: tuple[int, ...], kind: str) -> int:
    return row_bytes(kind, dims[0]) * prod(dims[1:])


def write_zeros(
    path: Path, shape: Shape, types: Mapping[str, str], *, layers: int, vocabulary: int
) -> None:
    """Write a model of `layers` layers of `shape` and so many tokens; `types` by weight."""
    matrices = {n: _dims(shape, n) for n in types} | {EMBEDDING: (shape.width, vocabulary)}
    tensors = [NewTensor(name, dims, types[name]) for name, dims in matrices.items()]
    tensors += [_ones("output_norm.weight", shape.width)]
    for layer in range(layers):
        norms = {"attn_norm": shape.width, "ffn_norm": shape.width}
        if shape.architecture == "qwen3":
            norms |= dict.fromkeys(("attn_q_norm", "attn_k_norm"), shape.head_width)
        tensors += [_ones(f"blk.{layer}.{n}.weight", width) for n, width in norms.items()]
    write_gguf(path, _metadata(shape, layers, vocabulary), tensors)


def zeros_bytes(shape: Shape, types: Mapping[str, str]) -> int:
    """About the size of a whole model's file."""
    tensors = [NewTensor(n, _dims(shape, n), k) for n, k in types.items()]
    return file_bytes(tensors)


def _ones(name: str, width: int) -> NewTensor:
    return float_vector(name, np.ones(width, np.float32))


def _dims(shape: Shape, name: str) -> tuple[int, int]:
    """(columns, rows) of a weight by its name."""
    if name == EMBEDDING:
        return (shape.width, shape.vocabulary)
    return matrix_sizes(shape)[name.split(".")[2]]


def _metadata(shape: Shape, layers: int, vocabulary: int) -> dict[str, bytes]:
    kind = shape.architecture
    return {
        "general.architecture": text(kind),
        "general.name": text(f"{shape.name} of zeros"),
        f"{kind}.block_count": u32(layers),
        f"{kind}.context_length": u32(shape.context),
        f"{kind}.embedding_length": u32(shape.width),
        f"{kind}.feed_forward_length": u32(shape.ffn),
        f"{kind}.attention.head_count": u32(shape.heads),
        f"{kind}.attention.head_count_kv": u32(shape.kv_heads),
        f"{kind}.attention.key_length": u32(shape.head_width),
        f"{kind}.attention.value_length": u32(shape.head_width),
        f"{kind}.rope.dimension_count": u32(shape.head_width),
        f"{kind}.rope.freq_base": f32(shape.rope_base),
        f"{kind}.attention.layer_norm_rms_epsilon": f32(shape.epsilon),
        **plain_vocabulary(vocabulary),
    }
