"""Make the tiers of a ladder: an F16 GGUF in, a GGUF of lower precision out.

llama.cpp does the work. What is added: the target appears only when it is
whole, and tensors that silently got another type than asked for are reported.
With an importance matrix (`engine.imatrix`) the columns that matter are kept best.

A precision is a mixture: "q4_k_m" has Q4_K and Q6_K. The rules change with llama.cpp, so it is
asked which type each weight gets: a model of the same depth and columns with a few rows is
quantised, which takes a moment, and its header is read.
"""

from __future__ import annotations

import re
import time
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
from edge_router.engine.llama_quantise import run_quantise
from edge_router.engine.machine import physical_cores
from edge_router.errors import UserError
from edge_router.files.whole import whole

# precision -> llama.cpp's file type
QUANTISED_TIERS: Final = {
    "f16": 1,
    "q4_0": 2,
    "q8_0": 7,
    "q5_0": 8,
    "iq1_s": 24,
    "iq1_m": 31,
    "iq2_xxs": 19,
    "iq2_xs": 20,
    "iq2_s": 28,
    "iq2_m": 29,
    "q2_k_s": 21,
    "q2_k": 10,
    "iq3_xxs": 23,
    "iq3_xs": 22,
    "iq3_s": 26,
    "iq3_m": 27,
    "q3_k_s": 11,
    "q3_k_m": 12,
    "q3_k_l": 13,
    "q4_k_s": 14,
    "q4_k_m": 15,
    "q5_k_s": 16,
    "q5_k_m": 17,
    "q6_k": 18,
    "iq4_nl": 25,
    "iq4_xs": 30,
}
# llama.cpp does not make these without an importance matrix
NEEDS_IMPORTANCE: Final = frozenset(
    ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "q2_k_s", "iq3_xxs")
)


@dataclass(frozen=True)
class Fallback:
    """A tensor whose rows did not fit the wanted type and got another one instead."""

    tensor: str
    columns: int
    wanted: str  # "q4_K"
    got: str  # "q5_0"


@dataclass(frozen=True)
class QuantiseReport:
    """What `quantise` wrote."""

    path: Path
    tier: str
    size_bytes: int
    seconds: float
    fallbacks: tuple[Fallback, ...]  # K-quants need rows that are multiples of 256


_FALLBACK: Final = re.compile(
    r"warning: (\S+)\s+- ncols\s+(\d+) not divisible by\s+\d+ \(required for type\s+(\S+)\)"
    r".*-> falling back to\s+(\S+)"
)


def quantise(
    source: Path,
    target: Path,
    tier: str,
    *,
    importance: ImportanceMatrix | None = None,
    threads: int | None = None,
) -> QuantiseReport:
    """Write the F16 or F32 GGUF `source` to `target` at the precision `tier` ("q4_k_m").

    `target` appears only when it is complete. Raises `UserError` for an
    unknown tier, one that needs an importance matrix and gets none, a source
    that is not a whole GGUF or is quantised already, or a target that cannot
    be written.
    """
    if tier not in QUANTISED_TIERS:
        known = ", ".join(QUANTISED_TIERS)
        raise UserError(f"there is no precision {tier!r}; choose one of {known}")
    if tier in NEEDS_IMPORTANCE and importance is None:
        raise UserError(f"the precision {tier} is not made without an importance matrix")
    source, target = Path(source), Path(target)
    read_header(source)
    if not target.parent.is_dir():
        raise UserError(f"{target} cannot be written: the folder {target.parent} does not exist")
    started = time.perf_counter()
    with whole(target) as partial:
        lines = run_quantise(
            source,
            partial,
            QUANTISED_TIERS[tier],
            threads or physical_cores(),
            importance.means if importance else None,
        )
    return QuantiseReport(
        path=target,
        tier=tier,
        size_bytes=target.stat().st_size,
        seconds=time.perf_counter() - started,
        fallbacks=tuple(
            Fallback(m[1], int(m[2]), m[3], m[4]) for m in map(_FALLBACK.search, lines) if m
        ),
    )


# -- which type each weight gets ------------------------------------------------------------------

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
