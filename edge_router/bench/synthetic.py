"""Write models of a real shape with random weights, to measure speed without a download.

A model's speed depends on its shape and precision, not on what it has learnt.
`write_random_ladder` makes an F16 GGUF of a known shape (a 0.6B one in about ten
seconds, one tensor in memory at a time) and quantises it; the same seed gives
the same bytes. The vocabulary has its true size and a byte-level BPE tokenizer
that reads and writes any text. Needs the `gguf` package (extra `convert`).

    python -m edge_router.bench.synthetic qwen3-0.6b FOLDER [q4_k_m q8_0 ...]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.agent.template import CHATML
from edge_router.engine.imatrix import ImportanceMatrix
from edge_router.engine.quantise import NEEDS_IMPORTANCE, matrix_sizes, quantise
from edge_router.errors import UserError
from edge_router.files.whole import remove_leftovers, whole
from edge_router.work.pool import Backend, Crash, Crew

if TYPE_CHECKING:
    from gguf import GGUFWriter

SPECIALS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Normal numbers are drawn once and read again from ever new places: drawing 600
# million takes most of a minute. The length is a prime, so that no two rows of
# a matrix are alike.
_POOL: Final = 4_194_301


@dataclass(frozen=True)
class Shape:
    """Dimensions of a model; embeddings are tied, as in every small model here."""

    name: str
    architecture: str  # "qwen3" or "llama"
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    ffn: int
    vocabulary: int
    context: int
    rope_base: float
    epsilon: float = 1e-6
    template: str | None = CHATML
    prompt_style: str | None = None  # written as edge_router.prompt_style

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(shape)) for _, shape in _tensor_shapes(self))


SHAPES: Final = {
    s.name: s
    for s in (
        Shape("smollm2-135m", "llama", 576, 30, 9, 3, 64, 1536, 49152, 8192, 1e5, 1e-5),
        Shape("qwen3-0.6b", "qwen3", 1024, 28, 16, 8, 128, 3072, 151936, 40960, 1e6),
        Shape("qwen3-1.7b", "qwen3", 2048, 28, 16, 8, 128, 6144, 151936, 40960, 1e6),
        Shape("qwen3-4b", "qwen3", 2560, 36, 32, 8, 128, 9728, 151936, 40960, 1e6),
        Shape("llama-3.2-1b", "llama", 2048, 16, 32, 8, 64, 8192, 128256, 131072, 5e5, 1e-5),
        Shape("tiny", "qwen3", 256, 2, 4, 2, 64, 512, 1024, 2048, 1e4),  # for tests
    )
}


def ladder_paths(
    shape: Shape, folder: Path, tiers: Sequence[str], *, seed: int = 0
) -> dict[str, Path]:
    """Where `write_random_ladder` puts each precision."""
    return {t: folder / f"{shape.name}-random{seed}-{t}.gguf" for t in tiers}


def write_random_ladder(
    shape: Shape,
    folder: Path,
    tiers: Sequence[str] = ("q4_k_m", "q8_0"),
    *,
    seed: int = 0,
    threads: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Path]:
    """Write `shape` into `folder` at every precision of `tiers`; what is there already is kept.

    `tell` gets a line for each file made. The F16 file is removed at the end unless "f16" is
    among the tiers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = ladder_paths(shape, folder, tiers, seed=seed)
    if all(p.is_file() for p in paths.values()):
        return paths
    full = folder / f"{shape.name}-random{seed}-f16.gguf"
    started = time.perf_counter()
    if not full.is_file():
        write_random_f16(shape, full, seed=seed)
        tell(f"f16: {time.perf_counter() - started:.0f} s")
    missing = [(t, p) for t, p in paths.items() if t != "f16" and not p.is_file()]
    jobs = [_Quantise(shape, full, path, tier, threads) for tier, path in missing]
    try:
        with Crew(Backend()) as crew:  # llama.cpp does not hear Ctrl-C; a process can be ended
            for index, result in crew.run(_quantise, jobs):
                if isinstance(result, Crash):
                    raise UserError(f"{jobs[index].target} was not made: {result.reason}")
                tell(f"{jobs[index].tier}: {result:.0f} s")
    finally:
        for _, path in missing:
            remove_leftovers(path)
    if "f16" not in tiers:
        full.unlink()
    return paths


@dataclass(frozen=True)
class _Quantise:
    """A tier to be made."""

    shape: Shape
    source: Path
    target: Path
    tier: str
    threads: int | None


def _quantise(job: _Quantise) -> float:
    """Make the tier; how long it took, in seconds."""
    alike = columns_alike(job.shape) if job.tier in NEEDS_IMPORTANCE else None
    return quantise(job.source, job.target, job.tier, importance=alike, threads=job.threads).seconds


def columns_alike(shape: Shape) -> ImportanceMatrix:
    """An importance matrix of ones, for the precisions that are not made without one.

    No column of random weights matters more than another, and speed does not depend on it.
    """
    means = {n: np.ones(d[1], np.float32) for n, d in _tensor_shapes(shape) if len(d) == 2}
    return ImportanceMatrix(means, tokens=1)


def write_random_f16(shape: Shape, path: Path, *, seed: int = 0) -> Path:
    """Write the F16 GGUF, one tensor at a time; `path` appears when it is complete."""
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise UserError(
            "writing a GGUF needs the gguf package: run: pip install 'edge-router[convert]'"
        ) from error
    with whole(path) as partial:
        writer = GGUFWriter(partial, shape.architecture)
        _write_metadata(writer, shape)
        for name, dims in _tensor_shapes(shape):
            dtype = np.dtype(np.float32 if len(dims) == 1 else np.float16)
            writer.add_tensor_info(name, dims, dtype, int(np.prod(dims)) * dtype.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in _weights(shape, seed):
            writer.write_tensor_data(tensor)
        writer.close()
    return path


def _write_metadata(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_name(f"{shape.name} with random weights")
    writer.add_file_type(1)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_vocab_size(shape.vocabulary)
    tokens, merges = byte_level_bpe(shape.vocabulary, SPECIALS)
    n_special = len(SPECIALS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if shape.architecture == "qwen3" else "llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - n_special) + [3] * n_special)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_bos_token_id(len(tokens) - n_special)
    writer.add_pad_token_id(len(tokens) - n_special)
    writer.add_add_bos_token(False)
    if shape.template is not None:
        writer.add_chat_template(shape.template)
    if shape.prompt_style is not None:
        writer.add_string("edge_router.prompt_style", shape.prompt_style)


def _tensor_shapes(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and numpy shapes (rows first) in the order of the file."""
    matrices = [(name, (rows, columns)) for name, (columns, rows) in matrix_sizes(shape).items()]
    yield "token_embd.weight", (shape.vocabulary, shape.width)
    yield "output_norm.weight", (shape.width,)
    for layer in range(shape.layers):
        block: list[tuple[str, tuple[int, ...]]] = [
            ("attn_norm", (shape.width,)),
            *matrices[:4],
            ("ffn_norm", (shape.width,)),
            *matrices[4:],
        ]
        if shape.architecture == "qwen3":
            block += [("attn_q_norm", (shape.head_width,)), ("attn_k_norm", (shape.head_width,))]
        for name, dims in block:
            yield f"blk.{layer}.{name}.weight", dims


def _weights(shape: Shape, seed: int) -> Iterator[NDArray[np.float16] | NDArray[np.float32]]:
    """The tensors in file order: matrices scaled by their fan-in, norms near one."""
    rng = np.random.default_rng(seed)
    pool = rng.standard_normal(_POOL, dtype=np.float32)
    for name, dims in _tensor_shapes(shape):
        if len(dims) == 1:
            yield (1.0 + 0.1 * rng.standard_normal(dims[0])).astype(np.float32)
            continue
        # Small embeddings: the blocks have their say, else a tied model repeats its input.
        scale = (2.0 if name.startswith("token_embd") else 1.0) * dims[1] ** -0.5
        yield _read_pool(pool, int(rng.integers(_POOL)), dims, scale)


def _read_pool(
    pool: NDArray[np.float32], start: int, dims: tuple[int, ...], scale: float
) -> NDArray[np.float16]:
    """A matrix of the pool's numbers from `start` on, round and round, times `scale`."""
    count = int(np.prod(dims))
    part = pool[start : start + count]
    if part.size < count:
        part = np.concatenate([part, pool[:start]])[:count]
    return np.resize((part * np.float32(scale)).astype(np.float16), dims)


def _byte_characters() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    table = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [table[b] for b in range(256)]


def byte_level_bpe(size: int, specials: Sequence[str] = SPECIALS) -> tuple[list[str], list[str]]:
    """A byte-level BPE vocabulary of `size` tokens, `specials` last, and its merges.

    The tokens are the 256 bytes and then lowercase letter strings, with and
    without a leading space, shortest first: two letters, three, and so on.
    """
    bytes_ = _byte_characters()
    space, letters = bytes_[32], "etaoinshrdlucmfwypvbgkqjxz"
    tokens, merges = list(bytes_), []
    room = size - len(tokens) - len(specials)
    if room < 0:
        raise ValueError(f"a vocabulary needs at least {256 + len(specials)} tokens, not {size}")
    stems = [space, *letters]
    while room > 0:
        longer = [(stem, letter) for stem in stems for letter in letters][:room]
        merges += [f"{stem} {letter}" for stem, letter in longer]
        stems = [stem + letter for stem, letter in longer]
        tokens += stems
        room -= len(longer)
    return tokens + list(specials), merges


def main(arguments: Sequence[str]) -> int:
    """Command line: SHAPE FOLDER [TIER ...]."""
    if len(arguments) < 2 or arguments[0] not in SHAPES:
        print(f"usage: synthetic {{{'|'.join(SHAPES)}}} FOLDER [TIER ...]", file=sys.stderr)
        return 2
    tiers = arguments[2:] or ("q4_k_m", "q8_0")
    for tier, path in write_random_ladder(SHAPES[arguments[0]], Path(arguments[1]), tiers).items():
        print(f"{tier}: {path} ({path.stat().st_size / 1e6:.0f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
