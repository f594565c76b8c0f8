"""llama.cpp's quantiser, and a look at the numbers that its matrix products are fed with.

It touches ctypes, as `llama`, `llama_model` and `library` do:

- `run_quantise`: write a GGUF at another file type. `engine.quantise` makes it safe to use.
- `quantised`, `dequantised`, `requantised`: values to blocks, back, and both.
- `ColumnSquares`: what an importance matrix is made of, read while a text is decoded.
  `engine.imatrix` makes the matrix of it.

llama.cpp calls back before it computes a node of its graph. The node is ggml's
`struct ggml_tensor`, whose layout is no promise of the library's: `ColumnSquares`
checks it at the first node it sees and refuses to read anything when it differs.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.gguf_file import GGML_TYPES, TYPE_NUMBERS
from edge_router.engine.library import library, library_log
from edge_router.engine.llama import EngineError
from edge_router.errors import UserError

_MATRIX_PRODUCT: Final = b"MUL_MAT"
# Types that ggml quantises to without tables that take seconds to make, and without weights of
# the columns; it ends the process at a type that it cannot quantise to.
_QUICK: Final = frozenset(
    [
        "F16",
        "BF16",
        "Q4_0",
        "Q4_1",
        "Q5_0",
        "Q5_1",
        "Q8_0",
        "Q2_K",
        "Q3_K",
        "Q4_K",
        "Q5_K",
        "Q6_K",
        "IQ4_NL",
        "IQ4_XS",
        "MXFP4",
    ]
)
_F32: Final = 0


def run_quantise(
    source: Path,
    target: Path,
    kind: int,
    threads: int,
    importance: Mapping[str, NDArray[np.float32]] | None = None,
) -> list[str]:
    """Write `source` at llama.cpp's file type `kind` to `target`; returns llama.cpp's log of it.

    `importance` maps a weight's name to one number a column, (columns,). Raw: no checks,
    not atomic. `engine.quantise.quantise` is the one to use.
    """
    api = library()
    params = api.llama_model_quantize_default_params()
    params.ftype = kind
    params.nthread = threads
    rows = {k.encode(): np.ascontiguousarray(v, np.float32) for k, v in (importance or {}).items()}
    entries = (api.llama_model_imatrix_data * (len(rows) + 1))()  # the last one ends the list
    for entry, (name, row) in zip(entries, rows.items(), strict=False):
        entry.name, entry.size = name, row.size
        entry.data = row.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    if rows:
        params.imatrix = entries
    library_log.errors.clear()
    with library_log.capture() as lines:
        code = api.llama_model_quantize(
            os.fsencode(source), os.fsencode(target), ctypes.byref(params)
        )
    if code != 0:
        raise UserError(f"llama.cpp cannot quantise {source}: {library_log.reason()}")
    return lines


class _Traits(ctypes.Structure):
    """The beginning of ggml.h's `struct ggml_type_traits`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),  # values in a block
        ("interleave", ctypes.c_int64),
        ("block_bytes", ctypes.c_size_t),
        ("is_quantised", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


def dequantised(type_name: str, data: bytes, count: int) -> NDArray[np.float32]:
    """The values (count,) of the blocks in `data`, which may be of any type ("Q4_K", "F16").

    Raises `UserError` for a type that ggml does not compute with.
    """
    if type_name == "F32":
        return np.frombuffer(data, np.float32, count)
    number = TYPE_NUMBERS[type_name]
    traits = _ggml().ggml_get_type_traits(number).contents
    if (traits.block, traits.block_bytes) != GGML_TYPES[number][1:]:
        raise EngineError(f"this llama.cpp stores {type_name} differently")
    if not traits.to_float:  # whole numbers, say: calling nothing would end the process
        raise UserError(f"a tensor is of the type {type_name}, which holds no weights")
    values = np.empty(count, np.float32)
    traits.to_float(data, values.ctypes.data, count)
    return values


def quantised(type_name: str, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(rows, columns) -> (rows, bytes) in blocks of a type, all columns weighing the same.

    Columns must fill whole blocks. Types that need an importance matrix are not for it: ggml would
    end the process.
    """
    rows, columns = values.shape
    number, values = TYPE_NUMBERS[type_name], np.ascontiguousarray(values, np.float32)
    block, block_bytes = GGML_TYPES[number][1:]
    out = np.empty((rows, columns // block * block_bytes), np.uint8)
    _ggml().ggml_quantize_chunk(number, values.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    return out


def requantised(type_name: str, values: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """`values` (rows, columns) as they are after quantising; None for types it is not done for.

    All columns weigh the same.
    """
    if type_name == "F32":
        return values
    if type_name not in _QUICK:
        return None
    blocks = quantised(type_name, values)
    return dequantised(type_name, blocks.tobytes(), values.size).reshape(values.shape)


class _Tensor(ctypes.Structure):
    """ggml.h's `struct ggml_tensor`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),  # elements along each dimension, columns first
        ("nb", ctypes.c_size_t * 4),  # bytes from one to the next
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )


class ColumnSquares:
    """Sums the squared inputs of every weight of the blocks, column by column.

    Give `callback` to a context that runs on the CPU and decode with it.
    `sums` maps a weight's name to an array (columns,), `rows` to how many
    tokens were summed. What llama.cpp's own imatrix tool collects (Kawrakow,
    llama.cpp pull request 4861), but for mixtures of experts.
    """

    def __init__(self) -> None:
        api = library()
        self.sums: dict[str, NDArray[np.float64]] = {}
        self.rows: dict[str, int] = {}
        self.error: Exception | None = None
        self.callback = api.ggml_backend_sched_eval_callback(self._receive)
        self._ggml = _ggml()
        self._product = -1  # the number of the operation, read off the first product

    def raise_error(self) -> None:
        """Raise what went wrong inside the callback, where an exception would be lost."""
        if self.error is not None:
            raise self.error

    def _receive(self, address: int, asked: bool, _data: object) -> bool:
        if self.error is not None:
            return not asked
        try:
            return self._take(_Tensor.from_address(address), asked)
        except Exception as error:
            self.error = error
            return not asked

    def _take(self, node: _Tensor, asked: bool) -> bool:
        """Asked: is the node wanted? Else: it was computed; returns whether to go on."""
        if self._product < 0:
            self._check_layout(node)
            self._product = self._number_of_product()
        if node.op != self._product:
            return not asked
        weight, inputs = (_Tensor.from_address(node.src[i]) for i in range(2))
        name = weight.name.decode()
        wanted = name.startswith("blk.") and inputs.type == _F32
        if asked or not wanted:
            return wanted or not asked
        columns, rows = inputs.ne[0], inputs.ne[1] * inputs.ne[2] * inputs.ne[3]
        if inputs.nb[1] != columns * 4 or inputs.nb[2] != inputs.ne[1] * inputs.nb[1]:
            raise EngineError(f"the input of {name} does not lie in one piece")
        pointer = ctypes.cast(inputs.data, ctypes.POINTER(ctypes.c_float))
        x = np.ctypeslib.as_array(pointer, shape=(rows, columns)).astype(np.float64)
        self.sums[name] = self.sums.get(name, 0.0) + (x * x).sum(0)
        self.rows[name] = self.rows.get(name, 0) + rows
        return True

    def _check_layout(self, node: _Tensor) -> None:
        address = ctypes.addressof(node)
        if self._ggml.ggml_get_name(address) != address + _Tensor.name.offset:
            raise EngineError(
                "this llama.cpp lays out its tensors differently, and no importance matrix can be"
                " collected with it"
            )

    def _number_of_product(self) -> int:
        for number in range(256):
            if self._ggml.ggml_op_name(number) == _MATRIX_PRODUCT:
                return number
        raise EngineError("this llama.cpp names no matrix product")


@cache
def _ggml() -> Any:
    """ggml's own functions, with the types of those that are called."""
    library()  # first: where llama.cpp cannot be loaded it says so in one sentence
    from llama_cpp._ggml import libggml

    libggml.ggml_get_name.argtypes = [ctypes.c_void_p]
    libggml.ggml_get_name.restype = ctypes.c_void_p
    libggml.ggml_op_name.argtypes = [ctypes.c_int]
    libggml.ggml_op_name.restype = ctypes.c_char_p
    libggml.ggml_get_type_traits.argtypes = [ctypes.c_int]
    libggml.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    libggml.ggml_quantize_chunk.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    ]
    libggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    return libggml
