"""Grow a small model to a large one's shape without changing what it says.

The grown model does the large one's work for every token and gives the small one's logits, but
for rounding, so a benchmark on it measures decisions and seconds in one run:

- width: a norm divides by the root of a mean, which zeros would make smaller against its
  epsilon. So the residual stream is written several times and stronger by a power of two, until
  its mean square is the small model's again; one copy is read. Other columns are zero;
- layers: added ones write zeros to the residual stream (attn_output and ffn_down are zero);
- heads: more of the same width, in the same groups, because rope depends on the width;
- vocabulary: a column of its own carries one constant from the embedding to the output, where
  the rows of added tokens turn it into a logit far below all others.

Quantised blocks are copied, at most with their scales times that power of two.
Whatever is added is zero but for that constant. It is computed all the same: no kernel skips it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_router.bench.synthetic import Shape
from edge_router.engine.gguf_bytes import strings_of
from edge_router.engine.gguf_file import GgufHeader, TensorInfo
from edge_router.engine.gguf_writer import (
    NewTensor,
    Piece,
    block_bytes,
    float_vector,
    numbers,
    row_bytes,
    text,
    texts,
    u32,
)
from edge_router.engine.mixtures import MATRICES, WeightColumns, matrix_sizes
from edge_router.errors import UserError

BLOCK: Final = 256  # columns: a whole number of blocks of every type
# The constant: too small to move a norm by a float32's precision, and a normal number in the
# float16 of a block's scale. The output norm makes it large, whatever it divides by.
CARRIED: Final = 2.0**-14
_LOUDER: Final = 2.0**30
_UNUSED: Final = 5  # the token type that no text becomes
_OUTPUT_NORM: Final = "output_norm.weight"
_EMBEDDING: Final = "token_embd.weight"
_NORMS: Final = ("attn_norm", "ffn_norm")
_WRITERS: Final = ("attn_output", "ffn_down")  # to the residual stream
# Where in a block its float16 scales lie.
_SCALES: Final[Mapping[str, tuple[int, ...]]] = {
    "F16": (0,),
    "Q4_0": (0,),
    "Q8_0": (0,),
    "IQ4_NL": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ1_S": (0,),
    "IQ2_XXS": (0,),
}
_HEAD_NORMS: Final = ("attn_q_norm", "attn_k_norm")


@dataclass(frozen=True)
class ResidualStream:
    """How the small model's residual stream lies in the large one's: times `factor`, repeated."""

    factor: float = 1.0  # a power of two
    copies: int = 1
    share: float = 1.0  # its mean square there / the small one's

    @classmethod
    def of(cls, small: Sizes, large: Sizes) -> ResidualStream:
        """The one whose mean square comes nearest, with room for a column besides."""
        times = large.width // small.width
        choices = [
            cls(f, copies, copies * f * f * small.width / large.width)
            for f in (1.0, 2.0, 4.0, 8.0)
            for copies in range(1, max(2, times))
        ]
        return min(choices, key=lambda c: (abs(log2(c.share)), c.copies))


@dataclass(frozen=True)
class Sizes:
    """What of a model's dimensions can grow."""

    width: int
    layers: int
    ffn: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int

    @classmethod
    def of(cls, header: GgufHeader) -> Sizes:
        """Those of a model. Raises `UserError` for one that cannot be grown."""
        kind = header.architecture

        def number(key: str, default: int = 0) -> int:
            said = header.metadata.get(f"{kind}.{key}", "")
            return int(said) if said.isdecimal() else default

        heads = number("attention.head_count")
        width = number("embedding_length")
        head_width = number("attention.key_length", width // max(1, heads))
        embedding = header.tensors.get(_EMBEDDING)
        sizes = cls(
            *(width, number("block_count"), number("feed_forward_length"), heads),
            *(number("attention.head_count_kv", heads), head_width),
            vocabulary=embedding.shape[1] if embedding else 0,
        )
        if set(header.tensors) - _names(sizes, header) or not all(vars(sizes).values()):
            raise UserError(
                f"{header.path} cannot be grown: only models with Qwen3's or Llama's layers and"
                " tied embeddings can, such as the embedded one"
            )
        return sizes

    @property
    def columns(self) -> WeightColumns:
        query = self.heads * self.head_width
        return WeightColumns(self.layers, self.width, query, self.ffn, self.heads, self.kv_heads)

    def grown(self, shape: Shape) -> Sizes:
        """As large as `shape`, with heads of this width that come to the same weights.

        Raises `UserError` where something would have to shrink.
        """
        group = self.heads // self.kv_heads
        attention = shape.head_width * (shape.heads + shape.kv_heads)
        step = max(1, BLOCK // self.head_width)  # rows of the output matrix are whole blocks
        heads = attention * group // (self.head_width * (group + 1)) // step * step
        large = Sizes(
            *(shape.width, shape.layers, shape.ffn, heads, heads // group, self.head_width),
            vocabulary=shape.vocabulary,
        )
        less = [k for k, v in vars(large).items() if v < vars(self)[k]]
        if less or heads % group or large.width % BLOCK or large.ffn % BLOCK:
            raise UserError(
                f"the model cannot be grown to {shape.name}: "
                + (f"{less[0]} would shrink" if less else f"its rows are no multiples of {BLOCK}")
            )
        return large


def _names(sizes: Sizes, header: GgufHeader) -> set[str]:
    """The tensors that a model of these layers may have."""
    norms = (*_NORMS, *(n for n in _HEAD_NORMS if f"blk.0.{n}.weight" in header.tensors))
    blocks = {f"blk.{i}.{n}.weight" for i in range(sizes.layers) for n in (*MATRICES, *norms)}
    return {_EMBEDDING, _OUTPUT_NORM, *blocks}


def grown_metadata(header: GgufHeader, small: Sizes, large: Sizes, name: str) -> dict[str, bytes]:
    """The metadata of the grown model: the small one's, with new sizes."""
    kind = header.architecture
    added = large.vocabulary - small.vocabulary
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
        "tokenizer.ggml.tokens": texts(tokens + [b"<|added_%d|>" % i for i in range(added)]),
        "tokenizer.ggml.token_type": numbers(types + [_UNUSED] * added),
    }


def grown_tensors(
    header: GgufHeader, small: Sizes, large: Sizes, types: Mapping[str, str]
) -> list[NewTensor]:
    """The tensors of the grown model; `types` are those of the added layers' matrices."""
    tensors = [_embedding(header.tensors[_EMBEDDING], small, large)]
    tensors.append(_norm(header.tensors[_OUTPUT_NORM], small, large, last=True))
    for layer in range(large.layers):
        prefix = f"blk.{layer}."
        for name, dims in matrix_sizes(large).items():
            old = header.tensors.get(f"{prefix}{name}.weight")
            full = f"{prefix}{name}.weight"
            stream = ResidualStream.of(small, large) if name in _WRITERS else ResidualStream()
            tensors.append(
                _padded(old, dims, stream) if old else NewTensor(full, dims, types[full])
            )
        for name in (*_NORMS, *_HEAD_NORMS):
            old = header.tensors.get(f"{prefix}{name}.weight")
            if old:
                tensors.append(old_norm(old, small, large, name))
            elif like := header.tensors.get(f"blk.0.{name}.weight"):
                columns = large.width if name in _NORMS else like.shape[0]
                ones = np.ones(columns, np.float32)
                tensors.append(float_vector(f"{prefix}{name}.weight", ones))
    return tensors


def old_norm(old: TensorInfo, small: Sizes, large: Sizes, name: str) -> NewTensor:
    """A norm of the small model; those of the heads keep their width and so their weights."""
    return _norm(old, small, large) if name in _NORMS else float_vector(old.name, _floats(old))


def _padded(old: TensorInfo, dims: tuple[int, int], stream: ResidualStream) -> NewTensor:
    """The matrix in the first columns and rows of a larger one, written as the stream is."""
    wide = row_bytes(old.type_name, dims[0])
    narrow = row_bytes(old.type_name, old.shape[0])

    def pieces() -> Iterator[Piece]:
        data = _scaled(old, stream.factor)
        for row in range(old.shape[1] * stream.copies):
            at = row % old.shape[1] * narrow
            yield row * wide, data[at : at + narrow]

    return NewTensor(old.name, dims, old.type_name, pieces)


def _scaled(tensor: TensorInfo, factor: float) -> bytes:
    """The tensor's bytes with the scales of all its blocks times a power of two."""
    if factor == 1.0:
        return _bytes(tensor)
    if tensor.type_name not in _SCALES:
        raise UserError(f"{tensor.file} cannot be grown: nobody told how {tensor.type_name} scales")
    size = block_bytes(tensor.type_name)
    blocks = np.frombuffer(_bytes(tensor), np.uint8).reshape(-1, size).copy()
    for at in _SCALES[tensor.type_name]:
        scales = blocks[:, at : at + 2].copy().view("<f2") * np.float16(factor)
        blocks[:, at : at + 2] = scales.view(np.uint8)
    return blocks.tobytes()


# -- norms ----------------------------------------------------------------------------------------


def _norm(old: TensorInfo, small: Sizes, large: Sizes, *, last: bool = False) -> NewTensor:
    stream = ResidualStream.of(small, large)
    weights = np.zeros(large.width, np.float32)
    weights[: small.width] = _floats(old) * np.float32(sqrt(stream.share) / stream.factor)
    if last:  # the embeddings that follow it are stronger as well
        weights /= np.float32(stream.factor)
        spare = stream.copies * small.width
        weights[spare : spare + 1] = _LOUDER
    return float_vector(old.name, weights)


def _floats(tensor: TensorInfo) -> NDArray[np.float32]:
    if tensor.type_name != "F32":
        raise UserError(f"{tensor.file} cannot be grown: its norms are {tensor.type_name}")
    return np.frombuffer(_bytes(tensor), "<f4")


def _bytes(tensor: TensorInfo) -> bytes:
    with tensor.file.open("rb") as file:
        file.seek(tensor.offset)
        return file.read(tensor.n_bytes)


# -- vocabulary -----------------------------------------------------------------------------------


def _embedding(old: TensorInfo, small: Sizes, large: Sizes) -> NewTensor:
    """Rows of the old tokens, then those of added ones, all with the carried column if any."""
    dims, added = (large.width, large.vocabulary), large.vocabulary - small.vocabulary
    stream = ResidualStream.of(small, large)
    if added and large.width == small.width:
        raise UserError("a vocabulary grows with the width only, which has to grow as well")
    carried, ruled_out = b"", b""
    if added:
        carried, ruled_out = (first_of_block(old.type_name, v) for v in (CARRIED, -1.0))
    narrow, wide = (row_bytes(old.type_name, w) for w in (small.width, large.width))

    def pieces() -> Iterator[Piece]:
        data = _scaled(old, stream.factor)
        for row in range(small.vocabulary):
            copies = data[row * narrow : (row + 1) * narrow] * stream.copies
            yield row * wide, copies + carried
        for row in range(small.vocabulary, large.vocabulary):
            yield row * wide + narrow * stream.copies, ruled_out

    return NewTensor(old.name, dims, old.type_name, pieces)


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
