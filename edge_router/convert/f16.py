"""Write a checkpoint as one F16 GGUF, with one tensor in memory at a time.

A matrix is read from its shard in pieces, converted piece by piece and written;
nothing is held but the F16 matrix itself (a gigabyte for the largest of an 8B).
A tensor with values beyond F16's range (65,504) is kept in float32, which is
found out only while it is read: the file is then begun again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.convert.architecture import MOSTLY_F16, PlannedTensor
from edge_router.errors import UserError
from edge_router.files.whole import Record, whole

if TYPE_CHECKING:
    from gguf import GGUFWriter

_PIECE: Final = 1 << 22  # values converted at a time

Values = NDArray[np.float16] | NDArray[np.float32]


class _TooLargeError(Exception):
    """A matrix holds values that F16 cannot."""

    def __init__(self, tensor: PlannedTensor) -> None:
        self.tensor = tensor


def write_f16(
    target: Path,
    architecture: str,
    planned: Sequence[PlannedTensor],
    add_metadata: Callable[[GGUFWriter], None],
    advance: Callable[[int], None] = lambda n_bytes: None,
    record: Record = lambda partial: None,
) -> tuple[str, ...]:
    """Write the file; returns the names of tensors that had to stay float32.

    `advance` gets the bytes of each tensor written. `target` appears when
    it is whole and `record` has seen it. Raises `UserError` when it cannot be
    written or the checkpoint holds values that are no numbers.
    """
    wide: set[str] = set()
    while True:
        try:
            with whole(target, record) as partial:
                _write(partial, architecture, _widened(planned, wide), add_metadata, advance)
            return tuple(sorted(wide))
        except _TooLargeError as error:
            wide.add(error.tensor.name)


def _widened(planned: Sequence[PlannedTensor], wide: set[str]) -> list[PlannedTensor]:
    return [replace(t, half=False) if t.name in wide else t for t in planned]


def _write(
    path: Path,
    architecture: str,
    planned: Sequence[PlannedTensor],
    add_metadata: Callable[[GGUFWriter], None],
    advance: Callable[[int], None],
) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, architecture)
    try:
        for tensor in planned:
            dtype = np.dtype(np.float16 if tensor.half else np.float32)
            writer.add_tensor_info(tensor.name, tensor.shape, dtype, tensor.n_bytes)
        add_metadata(writer)
        writer.add_file_type(MOSTLY_F16)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in planned:
            writer.write_tensor_data(values_of(tensor))
            advance(tensor.n_bytes)
        writer.flush()
    finally:
        writer.close()


def values_of(tensor: PlannedTensor) -> Values:
    """The values as they go into the file, of the tensor's shape."""
    if tensor.source is None:
        assert tensor.values is not None
        return tensor.values
    dtype = np.float16 if tensor.half else np.float32
    values: Any = np.empty(tensor.source.count, dtype=dtype)
    at = 0
    for piece in tensor.source.rows(_PIECE):
        with np.errstate(over="ignore"):
            values[at : at + piece.size] = piece
        if not np.isfinite(values[at : at + piece.size]).all():
            _refuse(tensor, piece)
        at += piece.size
    values = values.reshape(tensor.shape)
    if tensor.change is not None:
        values = _changed(tensor, values, tensor.change())
    shaped: Values = values
    return rotated_in_pairs(shaped, tensor.rotated_heads) if tensor.rotated_heads else shaped


def _changed(tensor: PlannedTensor, values: Values, change: NDArray[np.float32]) -> Values:
    """The values with an adapter's change, in their own type."""
    with np.errstate(over="ignore"):
        changed: Any = (values.astype(np.float32) + change).astype(values.dtype)
    if not np.isfinite(changed).all():
        _refuse(tensor, changed.astype(np.float32))
    whole: Values = changed
    return whole


def _refuse(tensor: PlannedTensor, piece: Values) -> None:
    if np.isfinite(piece).all():
        raise _TooLargeError(tensor)
    name = tensor.source.name if tensor.source else tensor.name
    raise UserError(
        f"the tensor {name} holds values that are no numbers; the checkpoint is damaged"
    )


def rotated_in_pairs(values: Values, heads: int) -> Values:
    """Rows of each head reordered from (first half, second half) to pairs.

    transformers rotates dimension i with i + width/2, llama.cpp's llama 2i
    with 2i + 1; with the rows rearranged both compute the same.
    """
    per_head: Any = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    paired: Values = np.ascontiguousarray(per_head.swapaxes(1, 2)).reshape(values.shape)
    return paired


def rotated_in_halves(values: Values, heads: int) -> Values:
    """`rotated_in_pairs` backwards."""
    per_head: Any = values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
    halves: Values = np.ascontiguousarray(per_head.swapaxes(1, 2)).reshape(values.shape)
    return halves
