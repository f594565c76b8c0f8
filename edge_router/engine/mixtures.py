"""Which type llama.cpp gives each weight at a precision: "q4_k_m" mixes Q4_K and Q6_K.

The rules change with llama.cpp, so it is asked: a model of the same depth and columns with a few
rows is quantised, which takes a moment, and its header is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

import numpy as np

from edge_router.engine.gguf_file import EMBEDDING, GGML_TYPES, read_header
from edge_router.engine.gguf_writer import NewTensor, f32, numbers, text, texts, u32, write_gguf
from edge_router.engine.imatrix import ImportanceMatrix
from edge_router.engine.quantise import NEEDS_IMPORTANCE, QUANTISED_TIERS, quantise

MATRICES: Final = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
_VECTORS: Final = ("attn_norm", "ffn_norm")
_TOKENS: Final = 256
_ROWS: Final = 8  # few: nothing is computed with them
_TYPES: Final = {n.lower(): n for n, block, _ in GGML_TYPES.values() if n[0] == "Q" and block > 1}


class Dimensions(Protocol):
    """What of a model decides the sizes of its layers' matrices."""

    @property
    def width(self) -> int: ...

    @property
    def ffn(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def kv_heads(self) -> int: ...

    @property
    def head_width(self) -> int: ...


def matrix_sizes(of: Dimensions) -> dict[str, tuple[int, int]]:
    """(columns, rows) of each of a layer's `MATRICES`."""
    query, key = of.heads * of.head_width, of.kv_heads * of.head_width
    return {
        "attn_q": (of.width, query),
        "attn_k": (of.width, key),
        "attn_v": (of.width, key),
        "attn_output": (query, of.width),
        "ffn_gate": (of.width, of.ffn),
        "ffn_up": (of.width, of.ffn),
        "ffn_down": (of.ffn, of.width),
    }


@dataclass(frozen=True)
class WeightColumns:
    """What of a model decides its weights' types."""

    layers: int
    width: int = 256
    query: int = 256  # of attn_output
    ffn: int = 256  # of ffn_down
    heads: int = 4
    kv_heads: int = 4

    def of(self, matrix: str) -> int:
        return {"attn_output": self.query, "ffn_down": self.ffn}.get(matrix, self.width)


def precisions() -> tuple[str, ...]:
    """The names that `weight_types` knows: llama.cpp's mixtures, and types ("q4_k") alone."""
    return tuple(dict.fromkeys([*QUANTISED_TIERS, *_TYPES]))


@cache
def weight_types(precision: str, columns: WeightColumns) -> Mapping[str, str]:
    """Matrix name -> ggml type at one of `precisions()`, in a model with tied embeddings."""
    widths = {EMBEDDING: columns.width}
    for layer in range(columns.layers):
        widths |= {f"blk.{layer}.{name}.weight": columns.of(name) for name in MATRICES}
    if precision not in QUANTISED_TIERS:
        return dict.fromkeys(widths, _TYPES[precision])
    with TemporaryDirectory(prefix="edge-router-") as folder:
        source, target = Path(folder, "flat.gguf"), Path(folder, "quantised.gguf")
        _write_flat(source, columns, widths)
        ones = {name: np.ones(width, np.float32) for name, width in widths.items()}
        alike = ImportanceMatrix(ones, tokens=1) if precision in NEEDS_IMPORTANCE else None
        quantise(source, target, precision, importance=alike)
        tensors = read_header(target).tensors
        return {name: tensors[name].type_name for name in widths}


def _write_flat(path: Path, columns: WeightColumns, widths: Mapping[str, int]) -> None:
    rows = {EMBEDDING: _TOKENS}
    tensors = [NewTensor(n, (w, rows.get(n, _ROWS)), "F16") for n, w in widths.items()]
    norms = [f"blk.{i}.{name}.weight" for i in range(columns.layers) for name in _VECTORS]
    tensors += [NewTensor(n, (columns.width,), "F32") for n in ["output_norm.weight", *norms]]
    metadata = {
        "general.architecture": text("llama"),
        "llama.block_count": u32(columns.layers),
        "llama.context_length": u32(256),
        "llama.embedding_length": u32(columns.width),
        "llama.feed_forward_length": u32(columns.ffn),
        "llama.attention.head_count": u32(columns.heads),
        "llama.attention.head_count_kv": u32(columns.kv_heads),
        "llama.attention.layer_norm_rms_epsilon": f32(1e-6),
        **plain_vocabulary(_TOKENS),
    }
    write_gguf(path, metadata, tensors)


def plain_vocabulary(size: int) -> dict[str, bytes]:
    """A tokenizer for models that only compute: numbers, which no text becomes."""
    return {
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.pre": text("gpt-2"),
        "tokenizer.ggml.tokens": texts([b"%d" % i for i in range(size)]),
        "tokenizer.ggml.token_type": numbers([1] * size),
        "tokenizer.ggml.merges": texts([b"1 2"]),
        "tokenizer.ggml.eos_token_id": u32(0),
        "tokenizer.ggml.bos_token_id": u32(0),
    }
