"""llama.cpp in process: typed, quiet, clear when it fails.

Six files touch ctypes: this one, `llama_model`, `llama_quantise`, `grammar`, `library` and
`stop_flag`.

llama-cpp-python's high-level `Llama` is not used: it copies logits, keeps one
cache of its own and cannot move a span of KV from one model to another, which
is what a ladder lives on. Here is the low-level API instead:

- `llama_model.LlamaModel`: weights and vocabulary of one GGUF.
- `LlamaContext`: a KV cache on a model; decode, logits, truncate, spans of KV.
- `copy_span`, `copy_all`: move KV between two contexts.
- `raw_decode`: the bare loop that the benchmarks compare ours with.

The library is loaded on first use, so importing this module costs nothing.
"""

from __future__ import annotations

import ctypes
import time
import weakref
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.engine import stop_flag
from edge_router.engine.library import library_log
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.threads import ThreadControl
from edge_router.errors import UserError

_F16: Final = 1
_SEQUENCE: Final = 0  # the text
_SCRATCH: Final = 1  # a span in transit between two contexts
# KV moves in pieces of this many tokens (7 MB for a Qwen3-0.6B): a long handoff
# then needs no more memory than a short one, and the buffer is used again.
PIECE_TOKENS: Final = 64


class EngineError(RuntimeError):
    """llama.cpp failed at something that should not fail; the message says what its log says."""


class ContextOverflowError(Exception):
    """The text does not fit: `needed` tokens against the `n_ctx` that the context holds."""

    def __init__(self, needed: int, n_ctx: int) -> None:
        super().__init__(f"{needed} tokens do not fit a context of {n_ctx}")
        self.needed = needed
        self.n_ctx = n_ctx


class LlamaContext:
    """A KV cache on a model, holding one text; positions count from 0.

    `n_past` tokens are in the cache. An interrupted `decode` (Ctrl-C) leaves
    `n_past` as it was, and the half-done work is cleared by the next call.
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        n_ctx: int,
        n_threads: int | None = None,
        thread_limit: int | None = None,
        n_batch: int = 512,
        n_seq_max: int = 2,
        kv_unified: bool = True,
        max_rows: int = 1,
        on_node: Any = None,
    ) -> None:
        """`n_threads` None follows the machine, on at most `thread_limit` (its cores) threads.

        `max_rows` is how many tokens' logits `decode_rows` may be asked for at once; `on_node` is
        llama.cpp's graph callback.
        """
        api = model._api
        self._api = api
        self.model = model
        self.n_ctx = n_ctx
        self.n_batch = min(n_batch, n_ctx)
        self.n_past = 0
        self._dirty = False
        follow = ThreadControl(float(api.llama_model_n_params(model.handle)), thread_limit)
        self._threads = follow if n_threads is None and model.on_cpu else None
        self.n_threads = n_threads or follow.limit
        params = api.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = self.n_batch
        params.n_seq_max = n_seq_max
        # Room is reserved for the rows of logits that are asked for at once: for
        # a whole batch it would take 300 MB at a 152k vocabulary.
        self.max_rows = min(max_rows, self.n_batch)
        params.n_outputs_max = max(self.max_rows, n_seq_max)
        params.kv_unified = kv_unified
        params.n_threads = params.n_threads_batch = self.n_threads
        params.type_k = params.type_v = _F16
        # On CPUs llama.cpp's flash attention reads spans of 2 to 63 tokens row by row, and an
        # agent's replies are that short: docs/measurements.md has both ways at many lengths.
        if model.on_cpu:
            params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.no_perf = True
        if on_node is not None:
            params.cb_eval = self._on_node = on_node  # kept: llama.cpp holds a bare pointer
        library_log.errors.clear()
        self.handle = api.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise UserError(
                f"llama.cpp cannot make a context of {n_ctx} tokens for {model.path}:"
                f" {library_log.reason()}"
            )
        stop_flag.watch(api, self.handle)
        self.cells = int(api.llama_n_ctx(self.handle))  # of the cache: n_ctx rounded up
        self._memory = api.llama_get_memory(self.handle)
        self._batch = _Batch(api, self.n_batch)
        self._free = weakref.finalize(self, _free_context, api, self.handle, self._batch.struct)
        self._view: NDArray[np.float32] | None = None
        self._view_address = 0
        self._room: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)  # KV on its way out

    def conditions(self) -> tuple[object, ...]:
        """What decides the bits of its KV besides weights, tokens and llama.cpp; threads do not."""
        return (self.cells, self.n_batch, "f16", self.model.gpu_layers, self.model.repacked)

    def again(self) -> LlamaContext:
        """An empty cache on the same model, as large as this one."""
        follows = self._threads
        return LlamaContext(
            self.model,
            n_ctx=self.n_ctx,
            n_threads=None if follows else self.n_threads,
            thread_limit=follows.limit if follows else None,
            max_rows=self.max_rows,
        )

    def decode(self, tokens: Sequence[int], pos0: int) -> None:
        """Run `tokens` through the model at positions `pos0`...; what lay there is dropped.

        Raises `ContextOverflowError` before anything is computed, `EngineError` if
        llama.cpp fails.
        """
        end = self._begin(tokens, pos0)
        for start in range(0, len(tokens), self.n_batch):
            chunk = tokens[start : start + self.n_batch]
            last = start + len(chunk) == len(tokens)
            self._batch.fill(chunk, pos0 + start, int(last))
            self._run_batch()
        self.n_past = end
        self._dirty = False

    def _begin(self, tokens: Sequence[int], pos0: int) -> int:
        """Make the cache ready for `tokens` at `pos0`; returns where they end."""
        end = pos0 + len(tokens)
        if end > self.n_ctx:
            raise ContextOverflowError(end, self.n_ctx)
        if not tokens or pos0 > self.n_past:
            raise ValueError(f"{len(tokens)} tokens at {pos0}, the cache holds {self.n_past}")
        if self._dirty or pos0 < self.n_past:
            self.truncate(pos0)
        self._dirty = True
        return end

    def decode_rows(
        self, tokens: Sequence[int], pos0: int, rows: int | None = None
    ) -> NDArray[np.float32]:
        """Decode one batch and see the logits of its last `rows` tokens (all of them for None).

        Returns a read-only view, shape (rows, n_vocab), of llama.cpp's own memory (40 MB for 64
        rows of a 152k vocabulary); it changes with the next decode. At most `n_batch` tokens and
        `max_rows` rows. Raises as `decode`.
        """
        rows = len(tokens) if rows is None else rows
        if not 0 < rows <= len(tokens) <= self.n_batch or rows > self.max_rows:
            raise ValueError(
                f"{rows} rows of {len(tokens)} tokens: a batch holds {self.n_batch}, and there is"
                f" room for {self.max_rows} rows"
            )
        self._begin(tokens, pos0)
        self._batch.fill(tokens, pos0, rows)
        self._run_batch()
        self.n_past = pos0 + len(tokens)
        self._dirty = False
        pointer = self._api.llama_get_logits(self.handle)
        view = np.ctypeslib.as_array(pointer, shape=(rows, self.model.n_vocab))
        view.flags.writeable = False
        return view

    def _run_batch(self) -> None:
        tokens = int(self._batch.struct.n_tokens)
        if self._threads is not None:
            self.use_threads(self._threads.choose(tokens))
        started, own = time.perf_counter(), time.thread_time()
        stop_flag.begin()
        while (
            code := self._api.llama_decode(self.handle, self._batch.struct)
        ) == stop_flag.ABORTED:
            stop_flag.end_or_go_on()
        if self._threads is not None:
            seconds, own = time.perf_counter() - started, time.thread_time() - own
            self._threads.took(self.n_threads, tokens, seconds, own)
        if code != 0:
            raise EngineError(f"llama_decode returned {code}: {library_log.reason()}")

    def use_threads(self, n: int) -> None:
        """Run the next decodes on `n` threads; a context that follows the machine chooses again."""
        if n != self.n_threads:
            self._api.llama_set_n_threads(self.handle, n, n)
            self.n_threads = n

    def logits(self) -> NDArray[np.float32]:
        """Logits after the last decoded token: a read-only view, shape (n_vocab,).

        The view shows llama.cpp's own memory; it changes with the next `decode`.
        """
        pointer = self._api.llama_get_logits_ith(self.handle, -1)
        if not pointer:
            raise EngineError("there are no logits: nothing was decoded since the cache changed")
        address = ctypes.addressof(pointer.contents)
        if self._view is None or address != self._view_address:
            view = np.ctypeslib.as_array(pointer, shape=(self.model.n_vocab,))
            view.flags.writeable = False
            self._view, self._view_address = view, address
        return self._view

    def truncate(self, n: int) -> None:
        """Keep the first `n` tokens. The logits stay those of the last decode."""
        if n > self.n_past:
            raise ValueError(f"cannot keep {n} tokens of {self.n_past}")
        if not self._api.llama_memory_seq_rm(self._memory, _SEQUENCE, n, -1):
            raise EngineError(f"llama.cpp cannot cut this model's cache back to {n} tokens")
        self._api.llama_memory_seq_rm(self._memory, _SCRATCH, -1, -1)
        self.n_past = n
        self._dirty = False

    def export_span(self, p0: int, p1: int) -> bytes:
        """The KV of positions p0 <= p < p1, to be given to `import_span` of a like context."""
        return self._export(p0, p1).tobytes()

    def import_span(self, data: bytes, p0: int, p1: int) -> None:
        """Append a span made by `export_span`; `p0` must be what this cache holds."""
        self._import(np.frombuffer(data, dtype=np.uint8), p0, p1)

    def state(self) -> bytes:
        """The whole cache as bytes, for comparing two contexts."""
        return self._read_state(_SEQUENCE).tobytes()

    def _export(self, p0: int, p1: int) -> NDArray[np.uint8]:
        """The span in a buffer that the next export overwrites."""
        if not 0 <= p0 < p1 <= self.n_past:
            raise ValueError(f"no span {p0}..{p1} in a cache of {self.n_past}")
        self._api.llama_memory_seq_cp(self._memory, _SEQUENCE, _SCRATCH, p0, p1)
        try:
            return self._read_state(_SCRATCH)
        finally:
            self._api.llama_memory_seq_rm(self._memory, _SCRATCH, -1, -1)

    def _read_state(self, sequence: int) -> NDArray[np.uint8]:
        size = int(self._api.llama_state_seq_get_size(self.handle, sequence))
        if self._room.size < size:
            self._room = np.empty(size, dtype=np.uint8)
        room = self._room
        n = self._api.llama_state_seq_get_data(self.handle, _bytes_pointer(room), size, sequence)
        if n != size:
            raise EngineError(f"llama.cpp gave {n} bytes of state where {size} were expected")
        return room[:size]

    def _import(self, data: NDArray[np.uint8], p0: int, p1: int) -> None:
        if p1 > self.n_ctx:
            raise ContextOverflowError(p1, self.n_ctx)
        if self._dirty:
            self.truncate(self.n_past)
        if p0 != self.n_past:
            raise ValueError(f"a span from {p0} cannot follow {self.n_past} tokens")
        self._dirty = True
        library_log.errors.clear()
        n = self._api.llama_state_seq_set_data(
            self.handle, _bytes_pointer(data), data.size, _SCRATCH
        )
        if n != data.size:
            raise EngineError(f"llama.cpp cannot take over the KV: {library_log.reason()}")
        self._api.llama_memory_seq_cp(self._memory, _SCRATCH, _SEQUENCE, p0, p1)
        self._api.llama_memory_seq_rm(self._memory, _SCRATCH, -1, -1)
        self.n_past = p1
        self._dirty = False

    def close(self) -> None:
        """Free the cache."""
        self._view = None
        self._free()


class _Batch:
    """llama.cpp's batch for one sequence, filled without allocating."""

    def __init__(self, api: Any, size: int) -> None:
        self.struct = api.llama_batch_init(size, 0, 1)
        as_array = np.ctypeslib.as_array
        self._tokens = as_array(self.struct.token, shape=(size,))
        self._positions = as_array(self.struct.pos, shape=(size,))
        self._wanted = as_array(self.struct.logits, shape=(size,))
        self._wanted[:] = 0
        as_array(self.struct.n_seq_id, shape=(size,))[:] = 1
        for i in range(size):
            self.struct.seq_id[i][0] = _SEQUENCE

    def fill(self, tokens: Sequence[int], pos0: int, rows: int) -> None:
        """The tokens, with logits asked for of the last `rows` of them."""
        n = len(tokens)
        self._wanted[: self.struct.n_tokens] = 0
        self._tokens[:n] = tokens
        self._positions[:n] = range(pos0, pos0 + n)
        self._wanted[n - rows : n] = 1
        self.struct.n_tokens = n


def _free_context(api: Any, handle: int, batch: Any) -> None:
    api.llama_free(handle)
    api.llama_batch_free(batch)


def _bytes_pointer(data: NDArray[np.uint8]) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def copy_span(source: LlamaContext, target: LlamaContext, p0: int, p1: int) -> None:
    """Append positions p0 <= p < p1 of `source`'s KV to `target`, which holds p0 tokens.

    The bits are the same as those of `copy_all`, for the price of the span
    alone. llama.cpp does not notice when the two models do not belong together.
    """
    for start in range(p0, p1, PIECE_TOKENS):
        end = min(start + PIECE_TOKENS, p1)
        target._import(source._export(start, end), start, end)


def copy_all(source: LlamaContext, target: LlamaContext) -> None:
    """Replace `target`'s whole cache by `source`'s: the reference that `copy_span` must equal."""
    data = source._read_state(_SEQUENCE)
    target.truncate(0)
    n = target._api.llama_state_seq_set_data(
        target.handle, _bytes_pointer(data), data.size, _SEQUENCE
    )
    if n != data.size:
        raise EngineError(f"llama.cpp cannot take over the KV: {library_log.reason()}")
    target.n_past = source.n_past


def raw_decode(context: LlamaContext, tokens: Sequence[int]) -> float:
    """Seconds that bare `llama_decode` calls take for `tokens`, one at a time, after the cache.

    What llama-bench measures: nothing but the calls and the wait for them, no
    logits read, no token chosen. The yardstick of `bench.speed`.
    """
    api, handle = context._api, context.handle
    ids = (ctypes.c_int32 * len(tokens))(*tokens)
    step = ctypes.sizeof(ctypes.c_int32)
    one = ctypes.POINTER(ctypes.c_int32)
    pointers = [ctypes.cast(ctypes.addressof(ids) + i * step, one) for i in range(len(tokens))]
    started = time.perf_counter()
    for pointer in pointers:
        if api.llama_decode(handle, api.llama_batch_get_one(pointer, 1)) != 0:
            raise EngineError(f"llama_decode failed: {library_log.reason()}")
        api.llama_synchronize(handle)
    seconds = time.perf_counter() - started
    context.n_past += len(tokens)
    return seconds
