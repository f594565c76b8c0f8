"""What each precision of a shape would cost here, measured on a few of its layers.

Every layer of a model does the same work, so the time of a few is multiplied by how many times
their bytes the whole has; they are so many that a cache does not hold them. The output matrix,
which is read once a token however deep the model is, is measured apart.

All weights are zero: what such a model computes is nothing, what it takes is the truth.
No kernel looks at a weight before it multiplies, and on most disks a file of zeros is a hole.
Taken in turn with random weights (4 layers of qwen3-0.6b, one thread, a busy machine), zeros
prefilled in 1.00 and 1.04 of the time and decoded in 0.90 (q4_k_m) and 0.95 (q8_0) of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from edge_router.bench.synthetic import Shape
from edge_router.bench.timing import in_turn, seconds
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
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.quantise import (
    WeightColumns,
    matrix_sizes,
    plain_vocabulary,
    weight_types,
)
from edge_router.engine.verify import ROWS

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


# -- measuring ------------------------------------------------------------------------------------

LAYERS: Final = 4  # that are measured at least ...
UNCACHED: Final = 64_000_000  # ... and so many bytes of them
CONTEXT: Final = 512  # tokens before those that are timed
READ: Final = 128  # tokens of a prefill
BATCHES: Final = (4, 8, ROWS)  # tokens of a draft that are verified in one go
KV_CONTEXT: Final = 4096  # tokens of the cache whose memory is told
_WRITE: Final = 16  # tokens that are decoded for one figure
_TOKEN: Final = 1  # any


@dataclass(frozen=True)
class CandidateTimes:
    """Seconds after a context of 512 tokens."""

    prefill: float  # of READ tokens
    decode: float  # of one token
    verify: tuple[float, ...]  # of BATCHES tokens with logits after each

    def plus(self, other: CandidateTimes, factor: float = 1.0) -> CandidateTimes:
        """These and `factor` times the others."""
        verify = tuple(a + factor * b for a, b in zip(self.verify, other.verify, strict=True))
        return CandidateTimes(
            self.prefill + factor * other.prefill, self.decode + factor * other.decode, verify
        )

    def at_least(self, least: float) -> CandidateTimes:
        verify = tuple(max(least, seconds) for seconds in self.verify)
        return CandidateTimes(max(least, self.prefill), max(least, self.decode), verify)


@dataclass(frozen=True)
class Candidate:
    """A precision of a whole model: bytes of its weights and its cache, and its times."""

    precision: str
    weight_bytes: int
    kv_bytes: int
    times: CandidateTimes

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Candidate:
        times = data["times"]
        found = CandidateTimes(times["prefill"], times["decode"], tuple(times["verify"]))
        return cls(data["precision"], data["weight_bytes"], data["kv_bytes"], found)


class LayerBench:
    """Measures precisions of one shape on a number of threads; the files are removed at the end.

    with measuring(shape, threads=2, repeats=3) as bench:
        bench.candidate("q4_k_m")
    """

    def __init__(self, shape: Shape, folder: Path, threads: int, repeats: int) -> None:
        self.shape, self.threads, self.repeats = shape, threads, repeats
        self._folder = folder
        self._outputs: dict[str, CandidateTimes] = {}

    def candidate(self, precision: str) -> Candidate:
        """The whole model at `precision`, from a few layers and the output matrix."""
        shape, whole = self.shape, weight_types(precision, columns_of(self.shape))
        each = layer_bytes(shape, whole) / shape.layers
        count = min(shape.layers, max(LAYERS, ceil(UNCACHED / each)))
        few = chosen_types(shape, precision, count)
        factor = layer_bytes(shape, whole) / layer_bytes(shape, few)
        layers = self._timed(few, layers=count, vocabulary=FEW_TOKENS)
        times = self._output(whole[EMBEDDING]).plus(layers, factor)
        size = layer_bytes(shape, whole) + output_bytes(shape, whole)
        return Candidate(precision, size, kv_of(shape), times)

    def whole(self, precision: str) -> CandidateTimes:
        """The times of all layers and the output matrix together, for comparison."""
        types = dict(weight_types(precision, columns_of(self.shape)))
        return self._timed(types, layers=self.shape.layers, vocabulary=self.shape.vocabulary)

    def _output(self, kind: str) -> CandidateTimes:
        """What the output matrix adds, whose type several precisions share."""
        if kind not in self._outputs:
            types = chosen_types(self.shape, "q8_0", 1) | {EMBEDDING: kind}
            small = self._timed(types, layers=1, vocabulary=FEW_TOKENS)
            large = self._timed(types, layers=1, vocabulary=self.shape.vocabulary)
            # A difference of two measurements: below zero it is noise.
            self._outputs[kind] = large.plus(small, -1.0).at_least(0.0)
        return self._outputs[kind]

    def _timed(self, types: dict[str, str], *, layers: int, vocabulary: int) -> CandidateTimes:
        path = self._folder / "zeros.gguf"
        write_zeros(path, self.shape, types, layers=layers, vocabulary=vocabulary)
        try:
            model = LlamaModel.load(path, use_mmap=False)
        finally:
            path.unlink()
        try:
            context = LlamaContext(
                model,
                n_ctx=CONTEXT + READ,
                n_threads=self.threads,
                n_batch=READ,
                max_rows=max(BATCHES),
            )
            try:
                return _times(context, self.repeats)
            finally:
                context.close()
        finally:
            model.close()


@contextmanager
def measuring(shape: Shape, *, threads: int, repeats: int) -> Iterator[LayerBench]:
    """A bench whose files lie in a folder of their own until the block ends."""
    with TemporaryDirectory(prefix="edge-router-") as folder:
        yield LayerBench(shape, Path(folder), threads, repeats)


def kv_of(shape: Shape) -> int:
    """Bytes of the F16 KV cache of KV_CONTEXT tokens."""
    return 2 * 2 * shape.layers * shape.kv_heads * shape.head_width * KV_CONTEXT


def _times(context: LlamaContext, repeats: int) -> CandidateTimes:
    context.decode([_TOKEN] * CONTEXT, 0)

    def timed(work: Callable[[], object]) -> float:
        context.truncate(CONTEXT)
        return seconds(work)

    def read() -> None:
        context.decode([_TOKEN] * READ, CONTEXT)
        context.logits()

    def write() -> None:
        for position in range(CONTEXT, CONTEXT + _WRITE):
            context.decode([_TOKEN], position)
            context.logits()

    def verify(count: int) -> None:
        context.decode_rows([_TOKEN] * count, CONTEXT)

    work: Sequence[Callable[[], object]] = [read, write, *(partial(verify, n) for n in BATCHES)]
    prefill, decode, *verified = in_turn([partial(timed, w) for w in work], repeats)
    return CandidateTimes(prefill.median, decode.median / _WRITE, tuple(v.median for v in verified))
