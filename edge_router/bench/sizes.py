"""How large a model is, how large it becomes, and where its parts then lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_router.bench.synthetic import Shape
from edge_router.engine.gguf_file import EMBEDDING, GgufHeader
from edge_router.engine.quantise import MATRICES, WeightColumns
from edge_router.errors import UserError

CODINGS: Final = 3  # of a weight in another type, side by side (`growth`)
BLOCK: Final = 256  # columns: a whole number of blocks of every type
OUTPUT_NORM: Final = "output_norm.weight"
NORMS: Final = ("attn_norm", "ffn_norm")
HEAD_NORMS: Final = ("attn_q_norm", "attn_k_norm")


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
        embedding = header.tensors.get(EMBEDDING)
        sizes = cls(
            *(width, number("block_count"), number("feed_forward_length"), heads),
            *(number("attention.head_count_kv", heads), head_width),
            vocabulary=embedding.shape[1] if embedding else 0,
        )
        if set(header.tensors) != _names(sizes) or not all(vars(sizes).values()):
            raise UserError(
                f"{header.path} cannot be grown: only models with Qwen3's layers and tied"
                " embeddings can, such as the embedded one"
            )
        return sizes

    @property
    def columns(self) -> WeightColumns:
        query = self.heads * self.head_width
        return WeightColumns(self.layers, self.width, query, self.ffn, self.heads, self.kv_heads)

    @property
    def group(self) -> int:
        """Heads of queries that share one of keys and values."""
        return self.heads // self.kv_heads

    def grown(self, shape: Shape) -> Sizes:
        """As large as `shape`. Raises `UserError` where something would have to shrink."""
        large = Sizes(
            *(shape.width, shape.layers, shape.ffn, shape.heads, shape.kv_heads, shape.head_width),
            vocabulary=shape.vocabulary,
        )
        less = [k for k, v in vars(large).items() if v < vars(self)[k]]
        uneven = large.group % self.group or large.head_width % self.head_width
        if less or uneven or large.width % BLOCK or large.ffn % BLOCK:
            raise UserError(
                f"the model cannot be grown to {shape.name}: "
                + (f"{less[0]} would shrink" if less else "its sizes are no multiples")
            )
        if Placement(self, large).most < CODINGS:
            raise UserError(
                f"the model cannot be grown to {shape.name}: it has to be {CODINGS} times as wide"
                " in every part"
            )
        return large


@dataclass(frozen=True)
class Placement:
    """Where the parts of the small model lie in the large one."""

    small: Sizes
    large: Sizes

    @property
    def copies(self) -> int:
        """Copies of the residual stream; a column is left for the constant of added tokens."""
        return (self.large.width - 1) // self.small.width

    @property
    def share(self) -> float:
        """The stream's mean square in the large model / that in the small one."""
        return self.copies * self.small.width / self.large.width

    @property
    def ratio(self) -> int:
        """How many small heads a large one is as wide as."""
        return self.large.head_width // self.small.head_width

    @property
    def most(self) -> int:
        """Codings that there is room for: of the stream, of the feed-forward part, of heads."""
        of_heads = self.ratio * (self.large.group // self.small.group)
        return min(self.copies, self.large.ffn // self.small.ffn, of_heads)

    def query_rows(self) -> list[NDArray[np.intp]]:
        """Where each row of attn_q lies, (rows,), once for each head that repeats it.

        Rope turns pairs of rows half a head apart, by an angle that falls with their place in
        the head: row i of a head `ratio` times as wide is turned as row i / ratio of this one.
        """
        rows = self.ratio * np.arange(self.small.head_width)
        return [self._heads(at)[:, None] + rows for at in range(-(-CODINGS // self.ratio))]

    def key_rows(self) -> list[NDArray[np.intp]]:
        """Where each row of attn_k lies."""
        return [self._kv_heads()[:, None] + self.ratio * np.arange(self.small.head_width)]

    def value_rows(self) -> list[NDArray[np.intp]]:
        """Where each row of attn_v lies, once for each part of a head that repeats it."""
        width = self.small.head_width
        rows = np.arange(width)
        return [
            self._kv_heads()[:, None] + at * width + rows for at in range(min(CODINGS, self.ratio))
        ]

    def output_columns(self) -> list[NDArray[np.intp]]:
        """First columns of each head's coding in attn_output, (heads,), for each coding."""
        places = (divmod(coding, self.ratio) for coding in range(CODINGS))
        return [self._heads(head) + part * self.small.head_width for head, part in places]

    def _heads(self, repeat: int) -> NDArray[np.intp]:
        """First row of the `repeat`-th head for each small head, in the same group."""
        group, within = np.divmod(np.arange(self.small.heads), self.small.group)
        heads = group * self.large.group + repeat * self.small.group + within
        return heads * self.large.head_width

    def _kv_heads(self) -> NDArray[np.intp]:
        return np.arange(self.small.kv_heads) * self.large.head_width


def _names(sizes: Sizes) -> set[str]:
    """The tensors of a model with Qwen3's layers."""
    names = (*MATRICES, *NORMS, *HEAD_NORMS)
    blocks = {f"blk.{i}.{n}.weight" for i in range(sizes.layers) for n in names}
    return {EMBEDDING, OUTPUT_NORM, *blocks}
