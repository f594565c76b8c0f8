"""Weights and vocabulary of one GGUF: loading, and text to tokens and back."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from edge_router.engine.gguf_file import GgufHeader, read_header
from edge_router.engine.library import features, library, library_log
from edge_router.errors import UserError


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

    def __init__(
        self, header: GgufHeader, handle: int, *, gpu_layers: int = 0, repacked: bool = True
    ) -> None:
        """`gpu_layers` is what was asked for, -1 all; `repacked` weights may lie in other order."""
        api = library()
        self._api = api
        self.handle = handle
        self.header = header
        self.gpu_layers = gpu_layers
        self.repacked = repacked
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
        params.use_extra_bufts = repacked = repack and _repacking_is_safe()
        params.vocab_only = vocab_only
        library_log.errors.clear()
        handle = api.llama_model_load_from_file(os.fsencode(header.path), params)
        if not handle:
            raise UserError(f"llama.cpp cannot load {header.path}: {library_log.reason()}")
        return cls(header, handle, gpu_layers=n_gpu_layers, repacked=repacked)

    @property
    def on_cpu(self) -> bool:
        """Whether all layers are computed by the processor."""
        return self.gpu_layers == 0

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

    @cached_property
    def longest_piece(self) -> int:
        """Letters that a token may have at most, control tokens too; reads all of them once."""
        return max(len(self._read_piece(token, True)) for token in range(self.n_vocab))

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
