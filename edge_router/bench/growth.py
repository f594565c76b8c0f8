"""Grow a small model to a large one's shape without changing what it says.

The grown model does the large one's work for every token and gives the small one's logits, but
for rounding, so a benchmark on it measures decisions and seconds in one run:

- width: the residual stream is written as often as there is placement, and the norms' epsilon and
  weights make up for what is still zero of its mean square;
- layers: added ones write zeros to the residual stream (attn_output and ffn_down are zero);
- heads: a small one lies in each large one, its rows where rope turns them by the same angles;
  the norms of the heads make up for a scale that depends on their width;
- vocabulary: a column of its own carries one constant from the embedding to the output, where
  the rows of added tokens turn it into a logit far below all others;
- types: a layer's matrices have those of the large model, three codings beside each other
  (`coded`). Their inputs are there three times: columns of the stream, heads, and rows of the
  feed-forward part. All tiers repeat their heads, because tiers read each other's KV. The
  embeddings, which are the output matrix as well, keep their type.

Whatever else is added is zero. It is computed all the same: no kernel skips it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from math import prod, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_router.bench.sizes import CODINGS, HEAD_NORMS, NORMS, OUTPUT_NORM, Placement
from edge_router.engine.gguf_bytes import strings_of
from edge_router.engine.gguf_file import EMBEDDING, GgufHeader, TensorInfo
from edge_router.engine.gguf_writer import (
    NewTensor,
    Piece,
    f32,
    float_vector,
    numbers,
    row_bytes,
    text,
    texts,
    u32,
)
from edge_router.engine.llama_quantise import dequantised, quantised
from edge_router.engine.quantise import matrix_sizes
from edge_router.errors import UserError

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
    """The weight's codings in `type_name`, each (rows, bytes): one in its own type, else three.

    Each holds what those before it left over. What is left after the third, of IQ1_S, IQ2_XXS
    and Q2_K weights (root mean square, relative): 6e-6 to 4e-4 as Q4_0, IQ4_NL, Q4_K or Q6_K.
    """
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


# The constant: too small to move a norm by a float32's precision, and a normal number in the
# float16 of a block's scale. The output norm makes it large, whatever it divides by.
CARRIED: Final = 2.0**-14
_LOUDER: Final = 2.0**30
_UNUSED: Final = 5  # the token type that no text becomes
_WRITERS: Final = ("attn_output", "ffn_down")  # to the residual stream
_EPSILON: Final = "attention.layer_norm_rms_epsilon"


def grown_metadata(header: GgufHeader, placement: Placement, name: str) -> dict[str, bytes]:
    """The metadata of the grown model: the small one's, with new sizes."""
    kind, large = header.architecture, placement.large
    added = large.vocabulary - placement.small.vocabulary
    epsilon = float(header.metadata[f"{kind}.{_EPSILON}"]) * placement.share
    tokens = list(strings_of(header.raw["tokenizer.ggml.tokens"]))
    types = np.frombuffer(header.raw["tokenizer.ggml.token_type"], "<i4", offset=16).tolist()
    return header.raw | {
        "general.name": text(name),
        f"{kind}.block_count": u32(large.layers),
        f"{kind}.embedding_length": u32(large.width),
        f"{kind}.feed_forward_length": u32(large.ffn),
        f"{kind}.attention.head_count": u32(large.heads),
        f"{kind}.attention.head_count_kv": u32(large.kv_heads),
        f"{kind}.attention.key_length": u32(large.head_width),
        f"{kind}.attention.value_length": u32(large.head_width),
        f"{kind}.{_EPSILON}": f32(epsilon),
        "tokenizer.ggml.tokens": texts(tokens + [b"<|added_%d|>" % i for i in range(added)]),
        "tokenizer.ggml.token_type": numbers(types + [_UNUSED] * added),
    }


def grown_tensors(
    header: GgufHeader, placement: Placement, types: Mapping[str, str]
) -> list[NewTensor]:
    """The tensors of the grown model; `types` are those of a model of its shape."""
    tensors = [_embedding(header.tensors[EMBEDDING], placement, types[EMBEDDING])]
    tensors.append(_output_norm(header.tensors[OUTPUT_NORM], placement))
    for layer in range(placement.large.layers):
        for name, dims in matrix_sizes(placement.large).items():
            full = f"blk.{layer}.{name}.weight"
            old = header.tensors.get(full)
            grown = _grown(old, name, dims, placement, types[full]) if old else None
            tensors.append(grown or NewTensor(full, dims, types[full]))
        for name in (*NORMS, *HEAD_NORMS):
            full = f"blk.{layer}.{name}.weight"
            old = header.tensors.get(full)
            columns = placement.large.width if name in NORMS else placement.large.head_width
            norm = _norm(old, name, placement) if old else np.ones(columns, np.float32)
            tensors.append(float_vector(full, norm))
    return tensors


def _grown(
    old: TensorInfo, name: str, dims: tuple[int, int], placement: Placement, wanted: str
) -> NewTensor:
    """The matrix `name` of a layer: its codings in their columns, its rows where each is read."""
    kind = type_to_hold(old, wanted, whole_rows=name != "attn_output")
    wide = row_bytes(kind, dims[0])
    columns = [np.array([coding * old.shape[0]]) for coding in range(CODINGS)]
    if name == "attn_output":
        columns = placement.output_columns()

    def pieces() -> Iterator[Piece]:
        lines = np.zeros((old.shape[1], wide), np.uint8)
        for part, starts in zip(coded(old, kind), columns, strict=False):
            portions = part.reshape(old.shape[1], len(starts), -1)
            for i, start in enumerate(starts):
                at = row_bytes(kind, int(start))
                lines[:, at : at + portions.shape[2]] = portions[:, i]
        for places in _rows(name, old.shape[1], placement):
            for place, line in zip(places.ravel().tolist(), lines, strict=True):
                yield place * wide, line.tobytes()

    return NewTensor(old.name, dims, kind, pieces)


def _rows(name: str, rows: int, placement: Placement) -> list[NDArray[np.intp]]:
    """Where each row of a matrix lies, as often as it is repeated."""
    of_heads = {
        "attn_q": placement.query_rows,
        "attn_k": placement.key_rows,
        "attn_v": placement.value_rows,
    }
    if name in of_heads:
        return of_heads[name]()
    repeats = placement.copies if name in _WRITERS else CODINGS
    return [repeat * rows + np.arange(rows) for repeat in range(repeats)]


# -- norms ----------------------------------------------------------------------------------------


def _norm(old: TensorInfo, name: str, placement: Placement) -> NDArray[np.float32]:
    """(columns,): a layer's norm, of the stream or of a head."""
    weights = _floats(old)
    if name in NORMS:
        out = np.zeros(placement.large.width, np.float32)
        read = np.tile(weights * np.float32(sqrt(placement.share)), CODINGS)
        out[: len(read)] = read
        return out
    # Zeros make the mean square `ratio` times smaller; queries are divided by the root of a
    # head's width, which has grown by as much.
    out = np.zeros(placement.large.head_width, np.float32)
    out[:: placement.ratio] = weights / np.float32(
        sqrt(placement.ratio) if name == "attn_k_norm" else 1
    )
    return out


def _output_norm(old: TensorInfo, placement: Placement) -> NewTensor:
    """One copy of the stream and the constant, each of which has a column of the embeddings."""
    out = np.zeros(placement.large.width, np.float32)
    out[: placement.small.width] = _floats(old) * np.float32(sqrt(placement.share))
    spare = placement.copies * placement.small.width
    out[spare : spare + 1] = _LOUDER
    return float_vector(old.name, out)


def _floats(tensor: TensorInfo) -> NDArray[np.float32]:
    if tensor.type_name != "F32":
        raise UserError(f"{tensor.file} cannot be grown: its norms are {tensor.type_name}")
    return np.fromfile(tensor.file, "<f4", tensor.n_bytes // 4, offset=tensor.offset)


# -- vocabulary -----------------------------------------------------------------------------------


def _embedding(old: TensorInfo, placement: Placement, wanted: str) -> NewTensor:
    """Rows of the old tokens, then those of added ones, each with its constant.

    Columns of the stream are what its rows add up to, so there is no room for codings: the type
    stays, unless it is to be F16, which holds all others.
    """
    kind = wanted if wanted == "F16" else old.type_name
    small, large = placement.small, placement.large
    if large.vocabulary == small.vocabulary:
        carried, ruled_out = b"", b""
    else:
        carried, ruled_out = (first_of_block(kind, v) for v in (CARRIED, -1.0))
    narrow, wide = (row_bytes(kind, w) for w in (small.width, large.width))

    def pieces() -> Iterator[Piece]:
        for row, line in enumerate(coded(old, kind)[0]):
            yield row * wide, line.tobytes() * placement.copies + carried
        for row in range(small.vocabulary, large.vocabulary):
            yield row * wide + narrow * placement.copies, ruled_out

    return NewTensor(old.name, (large.width, large.vocabulary), kind, pieces)


def first_of_block(type_name: str, value: float) -> bytes:
    """A block whose first weight is `value`, a float16, and whose others are zero.

    Raises `UserError` for a type whose blocks nobody has spelled out here.
    """
    scale, zero = struct.pack("<e", value), struct.pack("<e", 0.0)
    one = b"\x01"
    spelled: dict[str, Sequence[bytes | int]] = {  # numbers are zero bytes
        "F16": [scale],
        "Q8_0": [scale, one, 31],
        "Q4_K": [scale, zero, one, 11, one, 127],
        "Q5_K": [scale, zero, one, 11, 32, one, 127],
        # Its numbers count from -32, so those that share the scale are written as 32.
        "Q6_K": [one, 127, b"\x02" * 16, 48, one, 15, scale],
    }
    if type_name not in spelled:
        raise UserError(f"a model whose embeddings are {type_name} cannot get a larger vocabulary")
    return b"".join(part if isinstance(part, bytes) else bytes(part) for part in spelled[type_name])
