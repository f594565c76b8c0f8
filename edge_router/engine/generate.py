"""The decode loop: sample, show, stop; one token at a time on one tier's context.

The loop knows nothing of ladders. It starts where the context's logits are
those after the prompt, and says at the end which tokens the cache took in, so
that the ladder's books are right even when Ctrl-C cuts it short.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from edge_router.engine.constrain import Constraint, Guide
from edge_router.engine.llama import LlamaContext
from edge_router.engine.sampling import Sampler
from edge_router.engine.text_stream import TextStream

StopReason = Literal["eog", "stop", "max_tokens", "constraint"]


class Writer:
    """Writes one text after a prompt of `len(prompt)` tokens that `context` holds.

    After `run`: `tokens` and `text` belong together byte for byte, `fed` are
    the tokens that went into the cache.
    """

    def __init__(
        self,
        context: LlamaContext,
        prompt_length: int,
        sampler: Sampler,
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        constrain: Constraint | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        self.context = context
        self.model = context.model
        self.prompt_length = prompt_length
        self.sampler = sampler
        self.stream = TextStream(stop, on_text)
        self.guide: Guide | None = constrain.start(self.model) if constrain is not None else None
        reserve = self.guide.reserve if self.guide is not None else 0
        self.room = max(max_tokens, reserve)  # tokens the text can come to
        self._free_tokens = max_tokens - reserve
        self.tokens: list[int] = []
        self.fed: list[int] = []
        self._pending: list[int] = []

    def run(self) -> StopReason:
        """Write until something ends the text, and say what."""
        while True:
            reason = self._take_forced() or self._end_at_limit() or self._write_one()
            if reason is not None:
                self.stream.finish()
                return reason

    def _take_forced(self) -> StopReason | None:
        if self.guide is None:
            return None
        for token in self.guide.take_forced():
            self._append(token)
        return "constraint" if self.guide.done else None

    def _end_at_limit(self) -> StopReason | None:
        if len(self.tokens) < self._free_tokens:
            return None
        if self.guide is None:
            return "max_tokens"
        if self.guide.free:
            self.guide.end_thought()
            return self._take_forced()
        return None

    def _write_one(self) -> StopReason | None:
        self._feed()
        guide = self.guide
        allowed = None if guide is None else guide.allowed()
        token = self.sampler.sample(self.context.logits(), allowed)
        if self.model.is_eog(token):
            if guide is not None and guide.free:
                guide.end_thought()
                return None
            return "eog" if guide is None else "constraint"
        if guide is None:
            return self._stop() if self._append(token) else None
        for written in guide.accept(token):
            if self._append(written, guide.free):
                self._stop()
                guide.rewind(bytes(self.stream.data))
                guide.end_thought()
                break
        return None

    def _append(self, token: int, may_stop: bool = True) -> bool:
        """Write a token; True when it completed a stop string, which is then cut off."""
        self.tokens.append(token)
        self._pending.append(token)
        return self.stream.push(self.model.token_bytes(token), may_stop)

    def _feed(self) -> None:
        """Run what was written and is not yet in the cache through the model."""
        if not self._pending:
            return
        self.context.decode(self._pending, self.prompt_length + len(self.fed))
        self.fed += self._pending
        self._pending = []

    def _stop(self) -> StopReason:
        """Cut the tokens back to the text that is left before a stop string."""
        left = bytes(self.stream.data)
        whole, length = 0, 0
        for token in self.tokens:
            longer = length + len(self.model.token_bytes(token))
            if longer > len(left):
                break
            whole, length = whole + 1, longer
        self.tokens = self.tokens[:whole] + self._rest(left, length)
        del self.fed[whole:]
        self._pending = self.tokens[len(self.fed) :]
        return "stop"

    def _rest(self, left: bytes, length: int) -> list[int]:
        """Tokens for the part of a token that stands before the stop string."""
        try:
            return self.model.tokenize_after(left[length:].decode("utf-8"))
        except UnicodeDecodeError:  # half a character: it goes with the stop string
            del self.stream.data[length:]
            return []
