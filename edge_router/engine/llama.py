"""llama.cpp in process: typed, quiet, clear when it fails.

Nothing but this file, `engine.library` and `engine.llama_quantise` touches the library.

llama-cpp-python's high-level `Llama` is not used: it copies logits, keeps one
cache of its own and cannot move a span of KV from one model to another, which
is what a ladder lives on. Here is the low-level API instead:

- `LlamaModel`: weights and vocabulary of one GGUF.
- `LlamaContext`: a KV cache on a model; decode, logits, truncate, spans of KV.
- `copy_span`, `copy_all`: move KV between two contexts.
- `raw_decode`: the bare loop that the benchmarks compare ours with.

The library is loaded on first use, so importing this module costs nothing.
"""

from __future__ import annotations

import ctypes
import os
import time
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.engine import stop_flag
from edge_router.engine.gguf_file import GgufHeader, read_header
from edge_router.engine.library import features, library, library_log
from edge_router.engine.threads import ThreadControl
from edge_router.errors import UserError

_F16: Final = 1
_SEQUENCE: Final = 0  # the text
_SCRATCH: Final = 1  # a span in transit between two contexts
# KV moves in pieces of this many tokens (7 MB for a Qwen3-0.6B): a long handoff
# then needs no more memory than a short one, and the buffer is used again.
_PIECE_TOKENS: Final = 64


class EngineError(RuntimeError):
    """llama.cpp failed at something that should not fail; the message says what its log says."""


class ContextOverflowError(Exception):
    """The text does not fit: `needed` tokens against the `n_ctx` that the context holds."""

    def __init__(self, needed: int, n_ctx: int) -> None:
        super().__init__(f"{needed} tokens do not fit a context of {n_ctx}")
        self.needed = needed
        self.n_ctx = n_ctx


@cache
def _repacking_is_safe() -> bool:
    """Whether weights may be repacked for fast kernels.

    GCC before 12.4 and 13.3 (its bug 114098) drops the stores to AMX's tile
    configuration, and the first decode with repacked weights ends the process.
    A build with AMX therefore runs on plain kernels unless EDGE_ROUTER_AMX=1
    says that its compiler was sound. The Makefile builds without AMX.
    """
    built_with_amx = features().get("AMX_INT8") == "1"
    return not built_with_amx or os.environ.get("EDGE_ROUTER_AMX") == "1"


class LlamaModel:
    """Weights and vocabulary of one GGUF, read-only and shared by its contexts."""

    def __init__(self, header: GgufHeader, handle: int, on_cpu: bool = True) -> None:
        api = library()
        self._api = api
        self.handle = handle
        self.header = header
        self.on_cpu = on_cpu
        self.path = header.path
        self.metadata = header.metadata
        self._vocab = api.llama_model_get_vocab(handle)
        self._pieces: dict[int, bytes] = {}
        self.n_vocab = int(api.llama_vocab_n_tokens(self._vocab))
        self.n_ctx_train = int(api.llama_model_n_ctx_train(handle))
        self.n_layer = int(api.llama_model_n_layer(handle))
        self.n_embd = int(api.llama_model_n_embd(handle))
        self.n_swa = int(api.llama_model_n_swa(handle))
        self.is_recurrent = bool(
            api.llama_model_is_recurrent(handle) or api.llama_model_is_hybrid(handle)
        )
        self.bos_id = self._named("bos", api.llama_vocab_bos)  # -1: the vocabulary has none
        self.eos_id = self._named("eos", api.llama_vocab_eos)
        self.eot_id = int(api.llama_vocab_eot(self._vocab))
        self.adds_bos = bool(api.llama_vocab_get_add_bos(self._vocab))
        self._free = weakref.finalize(self, api.llama_model_free, handle)

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        n_gpu_layers: int = 0,
        use_mmap: bool = True,
        vocab_only: bool = False,
        repack: bool = True,
    ) -> LlamaModel:
        """Load the GGUF at `path`; `n_gpu_layers` -1 offloads all layers.

        With `vocab_only` the weights are left alone: text becomes tokens and
        back, and no context can be made. `repack` False leaves the weights as
        they lie on disk, which loads at once and computes slowly.

        Raises `UserError` when the file is missing, not a whole GGUF, or
        refused by llama.cpp. The header is checked first, because llama.cpp
        would read past the end of a file that was cut off.
        """
        header = read_header(Path(path))
        api = library()
        params = api.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        params.load_mode = api.LLAMA_LOAD_MODE_MMAP if use_mmap else api.LLAMA_LOAD_MODE_NONE
        params.use_extra_bufts = repack and _repacking_is_safe()
        params.vocab_only = vocab_only
        library_log.errors.clear()
        handle = api.llama_model_load_from_file(os.fsencode(header.path), params)
        if not handle:
            raise UserError(f"llama.cpp cannot load {header.path}: {library_log.reason()}")
        return cls(header, handle, on_cpu=n_gpu_layers == 0)

    def _named(self, kind: str, ask: Callable[[Any], int]) -> int:
        """A special token's id, -1 where a byte-level vocabulary names none.

        llama.cpp would take token 11 then, which is an ordinary one.
        """
        silent = f"tokenizer.ggml.{kind}_token_id" not in self.metadata
        if silent and self.metadata.get("tokenizer.ggml.model") == "gpt2":
            return -1
        return int(ask(self._vocab))

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template in the GGUF's metadata."""
        return self.metadata.get("tokenizer.chat_template")

    @property
    def eog_ids(self) -> tuple[int, ...]:
        """The vocabulary's main end-of-generation tokens (end of text, end of turn)."""
        known = dict.fromkeys((self.eos_id, self.eot_id))
        return tuple(i for i in known if i >= 0 and self.is_eog(i))

    def text_settings(self) -> tuple[object, ...]:
        """Tokens of bos, eos and eot, and whether bos and eos are put around a text."""
        adds_eos = bool(self._api.llama_vocab_get_add_eos(self._vocab))
        return self.bos_id, self.eos_id, self.eot_id, self.adds_bos, adds_eos

    def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = True
    ) -> list[int]:
        """Token ids of `text`; `parse_special` reads "<|im_end|>" and the like as one token."""
        data = text.encode("utf-8")
        room = len(data) + 2
        while True:
            ids = (ctypes.c_int32 * room)()
            n = self._api.llama_tokenize(
                self._vocab, data, len(data), ids, room, add_special, parse_special
            )
            if n >= 0:
                return ids[:n]
            room = -n

    def tokenize_after(self, text: str) -> list[int]:
        """Token ids whose bytes are exactly `text`, for text that continues a text.

        Vocabularies of the SentencePiece kind put a space before whatever they
        tokenise; here that is undone. Special tokens are read as plain text.
        """
        wanted = text.encode("utf-8")
        ids = self.tokenize(text, parse_special=False)
        if self.join(ids) == wanted:
            return ids
        anchor = self.tokenize("\n", parse_special=False)
        ids = self.tokenize("\n" + text, parse_special=False)
        if ids[: len(anchor)] == anchor and self.join(ids[len(anchor) :]) == wanted:
            return ids[len(anchor) :]
        raise UserError(f"the vocabulary of {self.path} cannot write the text {text!r}")

    def join(self, ids: Sequence[int]) -> bytes:
        """The bytes that the tokens stand for."""
        return b"".join(map(self.token_bytes, ids))

    def detokenize(self, ids: Sequence[int]) -> str:
        """Text of the tokens; control tokens are empty, bytes that are no UTF-8 become U+FFFD."""
        return self.join(ids).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token, empty for control tokens; raises ValueError on a wrong id."""
        piece = self._pieces.get(token)
        if piece is None:
            if not 0 <= token < self.n_vocab:
                raise ValueError(f"token {token} is not in a vocabulary of {self.n_vocab}")
            piece = self._pieces[token] = self._read_piece(token)
        return piece

    def token_text(self, token: int) -> str:
        """How a token is written in a text, control tokens ("<|im_end|>") too; "" for id -1."""
        return self._read_piece(token, True).decode("utf-8", "replace") if token >= 0 else ""

    def _read_piece(self, token: int, special: bool = False) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            n = self._api.llama_token_to_piece(self._vocab, token, buffer, room, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            room = -n

    def is_eog(self, token: int) -> bool:
        """Whether the token ends a generation (end of text, end of turn)."""
        if not self._api.llama_vocab_is_eog(self._vocab, token):
            return False
        # without a named EOS llama.cpp ends at an ordinary token (see _named)
        return self.eos_id >= 0 or not self.token_bytes(token)

    def close(self) -> None:
        """Free the weights; contexts on this model must be closed before."""
        self._free()


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
        all_logits: bool = False,
        on_node: Any = None,
    ) -> None:
        """`n_threads` None follows the machine, on at most `thread_limit` (its cores) threads.

        `all_logits` makes room for `decode_all`; `on_node` is llama.cpp's graph callback.
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
        # Only one row of logits is ever asked for; reserving rows for a whole
        # batch would cost 300 MB at a 152k vocabulary.
        params.n_outputs_max = self.n_batch if all_logits else n_seq_max
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

    def decode(self, tokens: Sequence[int], pos0: int) -> None:
        """Run `tokens` through the model at positions `pos0`...; what lay there is dropped.

        Raises `ContextOverflowError` before anything is computed, `EngineError` if
        llama.cpp fails.
        """
        end = pos0 + len(tokens)
        if end > self.n_ctx:
            raise ContextOverflowError(end, self.n_ctx)
        if not tokens or pos0 > self.n_past:
            raise ValueError(f"{len(tokens)} tokens at {pos0}, the cache holds {self.n_past}")
        if self._dirty or pos0 < self.n_past:
            self.truncate(pos0)
        self._dirty = True
        for start in range(0, len(tokens), self.n_batch):
            chunk = tokens[start : start + self.n_batch]
            last = start + len(chunk) == len(tokens)
            self._batch.fill(chunk, pos0 + start, last)
            self._run_batch()
        self.n_past = end
        self._dirty = False

    def decode_all(self, tokens: Sequence[int], pos0: int = 0) -> NDArray[np.float32]:
        """Like `decode`, with a copy of the logits of each token, shape (len(tokens), n_vocab).

        At most `n_batch` tokens, in a context made with `all_logits`.
        """
        if not 0 < len(tokens) <= self.n_batch:
            raise ValueError(f"{len(tokens)} tokens, and a batch holds {self.n_batch}")
        if pos0 + len(tokens) > self.n_ctx:
            raise ContextOverflowError(pos0 + len(tokens), self.n_ctx)
        self.truncate(pos0)
        self._dirty = True
        self._batch.fill(tokens, pos0, True, every=True)
        self._run_batch()
        self.n_past = pos0 + len(tokens)
        self._dirty = False
        pointer = self._api.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(pointer, shape=(len(tokens), self.model.n_vocab)).copy()

    def _run_batch(self) -> None:
        tokens = int(self._batch.struct.n_tokens)
        if self._threads is not None:
            self.use_threads(self._threads.choose(tokens))
        started = time.perf_counter()
        stop_flag.begin()
        while (
            code := self._api.llama_decode(self.handle, self._batch.struct)
        ) == stop_flag.ABORTED:
            stop_flag.end_or_go_on()
        if self._threads is not None:
            self._threads.took(self.n_threads, tokens, time.perf_counter() - started)
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

    def fill(
        self, tokens: Sequence[int], pos0: int, wants_logits: bool, *, every: bool = False
    ) -> None:
        n = len(tokens)
        self._wanted[: self.struct.n_tokens] = 0
        self._wanted[:n] = every
        self._tokens[:n] = tokens
        self._positions[:n] = range(pos0, pos0 + n)
        self._wanted[n - 1] = wants_logits
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
    for start in range(p0, p1, _PIECE_TOKENS):
        end = min(start + _PIECE_TOKENS, p1)
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
