"""Importance matrices: which columns of a weight matter, measured on a text.

Below four bits a weight's columns cannot all be kept well. The mean square of
what each column is multiplied with tells the quantiser where an error would
hurt; the IQ1 and IQ2 types are not made without it.

    matrix = collect(Path("model-f16.gguf"), [tokens, more_tokens])
    write_imatrix(matrix, Path("model.imatrix.gguf"))
    quantise(Path("model-f16.gguf"), Path("model-iq2_xs.gguf"), "iq2_xs", importance=matrix)

Files are llama.cpp's own GGUF form of an importance matrix (its imatrix tool
writes and reads the same), so one made elsewhere serves as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.llama_quantise import ColumnSquares
from edge_router.errors import UserError
from edge_router.files.whole import whole

_SUM: Final = ".in_sum2"
_COUNT: Final = ".counts"
CHUNK: Final = 512  # tokens read at once, llama.cpp's own default


@dataclass(frozen=True)
class ImportanceMatrix:
    """Mean squared input of every column: weight name -> (columns,); over how many tokens."""

    means: dict[str, NDArray[np.float32]]
    tokens: int


def collect(
    model: Path, texts: Iterable[Sequence[int]], *, threads: int | None = None
) -> ImportanceMatrix:
    """Read `texts` (token ids, cut into pieces of at most 512) with `model` and watch its weights.

    Use the F16 file. Raises `UserError` when there is no text or the file cannot be loaded.
    """
    llama = LlamaModel.load(model)
    watched = ColumnSquares()
    context = LlamaContext(
        llama,
        n_ctx=min(CHUNK, llama.n_ctx_train),
        n_threads=threads,
        max_rows=CHUNK,  # all rows: else the last block is computed for the last token only
        on_node=watched.callback,
    )
    tokens = 0
    try:
        for text in texts:
            for start in range(0, len(text), context.n_batch):
                piece = text[start : start + context.n_batch]
                context.decode_rows(piece, 0)
                watched.raise_error()
                tokens += len(piece)
    finally:
        context.close()
        llama.close()
    if not tokens:
        raise UserError("an importance matrix needs a text, and the one given is empty")
    means = {n: (s / watched.rows[n]).astype(np.float32) for n, s in watched.sums.items()}
    return ImportanceMatrix(means, tokens)


def write_imatrix(matrix: ImportanceMatrix, path: Path) -> None:
    """Write `path` in llama.cpp's form; it appears when it is whole. Raises `UserError`."""
    from gguf import GGUFWriter

    with whole(path) as partial:
        writer = GGUFWriter(partial, arch="", use_temp_file=False)
        writer.kv_data[0].pop("general.architecture", None)
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", ["edge-router"])
        writer.add_uint32("imatrix.chunk_count", max(1, matrix.tokens // CHUNK))
        writer.add_uint32("imatrix.chunk_size", CHUNK)
        count = np.full((1, 1), matrix.tokens, np.float32)
        for name, mean in sorted(matrix.means.items()):
            writer.add_tensor(name + _SUM, (mean * np.float32(matrix.tokens))[None])
            writer.add_tensor(name + _COUNT, count)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read a GGUF importance matrix. Raises `UserError` when the file is none."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        tensors = {t.name: np.asarray(t.data, np.float32).ravel() for t in reader.tensors}
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise UserError(
            f"{path} is no importance matrix: it is not a GGUF file that can be read (older .dat"
            " files are not; make it anew or convert it with llama.cpp's imatrix tool)"
        ) from error
    means, tokens = {}, 0
    for name, total in tensors.items():
        counts = tensors.get(name.removesuffix(_SUM) + _COUNT)
        if not name.endswith(_SUM) or counts is None:
            continue
        # one count a matrix: mixtures of experts have several in one tensor
        per_matrix = total.reshape(counts.size, -1) / np.maximum(counts, 1.0)[:, None]
        per_matrix[counts == 0] = 1.0  # never used: all columns alike
        means[name.removesuffix(_SUM)] = per_matrix.astype(np.float32).ravel()
        tokens = max(tokens, int(counts.max()))
    if not means:
        raise UserError(f"{path} is a GGUF file, but it holds no importance matrix")
    return ImportanceMatrix(means, tokens)
