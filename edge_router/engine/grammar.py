"""Make a text follow a grammar, by llama.cpp's own grammar sampler.

The grammar is in llama.cpp's notation (GBNF) and its first rule is `root`. Before each token the
sampler says which of the vocabulary may come next; a token that was chosen is told to it. It
ends the process when it is told one that it had not allowed, so only those are.
"""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.constrain import Constraint, Guide
from edge_router.engine.llama_model import LlamaModel
from edge_router.errors import UserError

# The sampler looks at each token's text: 14 ms for the 49,152 of SmolLM2, beside a decode of 15.
# One of the likeliest tokens may nearly always come next.
_LIKELY: Final = 512
_CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


@dataclass(frozen=True)
class Grammar(Constraint):
    """The whole text follows the GBNF `rules`, unless the limit cuts it short."""

    rules: str

    def start(self, vocabulary: LlamaModel) -> Guide:
        """Raises `UserError` for rules that are no grammar, or that llama.cpp does not take."""
        return GrammarGuide(self.rules, vocabulary)


class GrammarGuide(Guide):
    """A grammar at work on one text."""

    reserve = 0
    free = True  # the model ends it where the grammar lets it; the limit may cut it short

    def __init__(self, rules: str, model: LlamaModel) -> None:
        api = model._api
        self._api = api
        self.done = False
        self._sampler = api.llama_sampler_init_grammar(model._vocab, rules.encode(), b"root")
        if not self._sampler or not rules.strip():  # llama.cpp takes none for one
            raise UserError("llama.cpp cannot read the grammar that the answer has to follow")
        weakref.finalize(self, api.llama_sampler_free, self._sampler)
        self._candidates = np.zeros(model.n_vocab, _CANDIDATE)
        self._candidates["id"] = np.arange(model.n_vocab)

    def take_forced(self) -> list[int]:
        """None: what has to come is chosen like any other token."""
        return []

    def allowed(self, logits: NDArray[np.float32] | None = None) -> NDArray[np.intp]:
        """Token ids that may come next, shape (n,); where the text may end, those that end it.

        Of many that may, only those among the `_LIKELY` likeliest tokens.
        """
        if logits is not None and logits.size > 4 * _LIKELY:
            likeliest = np.argpartition(logits, logits.size - _LIKELY)[logits.size - _LIKELY :]
            found = self._of(self._candidates[np.sort(likeliest)])
            if found.size:
                return found
        return self._of(self._candidates.copy())

    def _of(self, candidates: NDArray[np.void]) -> NDArray[np.intp]:
        """Those of the candidates that may come next."""
        pointer = candidates.ctypes.data_as(ctypes.POINTER(self._api.llama_token_data))
        array = self._api.llama_token_data_array(pointer, candidates.size, -1, False)
        self._api.llama_sampler_apply(self._sampler, ctypes.byref(array))
        allowed: NDArray[np.int32] = candidates["id"][np.isfinite(candidates["logit"])]
        return allowed.astype(np.intp)

    def accept(self, token: int) -> list[int]:
        """Take one of the tokens that were allowed."""
        self._api.llama_sampler_accept(self._sampler, token)
        return [token]

    def rewind(self, data: bytes) -> None:
        """A stop string ended the text; nothing follows."""

    def end_thought(self) -> None:
        """The model, a stop string or the limit ended the text."""
        self.done = True
