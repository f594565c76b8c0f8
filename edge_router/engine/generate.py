"""The decode loop: sample, show, stop; one token at a time on one tier's context.

The loop knows nothing of ladders. It starts where the context's logits are
those after the prompt, and says at the end which tokens the cache took in, so
that the ladder's books are right even when Ctrl-C cuts it short.

What another writer chose can be given to it: `replay` is taken as it is, without
asking the model; what is proposed is verified, choice by choice, until one is
rejected. A choice decides all that follows from it (stop strings, forced tokens,
the end), so a text comes out the same however its choices were made.

A token may end inside a UTF-8 character or inside a stop string, so both are
held back until it is clear what they are. Bytes that never become UTF-8 show
as U+FFFD.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, Protocol, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.constrain import Constraint, Guide
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.sampling import Draw, Sampler


class TextStream:
    """Collects bytes, finds stop strings and hands on whole characters."""

    def __init__(
        self, stops: Sequence[str] = (), on_text: Callable[[str], None] | None = None
    ) -> None:
        self._stops = [s.encode("utf-8") for s in stops if s]
        self._on_text = on_text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._shown = 0  # bytes handed to the decoder
        self.data = bytearray()

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")

    def push(self, piece: bytes, may_stop: bool = True) -> bool:
        """Add a token's bytes; True when a stop string is complete and was cut off."""
        before = len(self.data)
        self.data += piece
        for stop in self._stops if may_stop else ():
            at = self.data.find(stop, max(0, before - len(stop) + 1))
            if at >= 0:
                del self.data[at:]
                return True
        if self._on_text is not None:
            self._show(len(self.data) - self._held_back())
        return False

    def _held_back(self) -> int:
        """Length of the longest end of the text that may become a stop string."""
        longest = 0
        for stop in self._stops:
            for n in range(min(len(stop) - 1, len(self.data)), longest, -1):
                if self.data.endswith(stop[:n]):
                    longest = n
                    break
        return longest

    def _show(self, end: int, final: bool = False) -> None:
        if self._on_text is None or (end <= self._shown and not final):
            return
        text = self._decoder.decode(bytes(self.data[self._shown : end]), final)
        self._shown = max(self._shown, end)
        if text:
            self._on_text(text)

    def finish(self) -> str:
        """Show what was held back; returns the whole text."""
        self._show(len(self.data), final=True)
        return self.text


# -- the loop -------------------------------------------------------------------------------------

StopReason = Literal["eog", "stop", "max_tokens", "constraint"]


class Reader(Protocol):
    """What a writer needs of a context, as in `llama.LlamaContext`."""

    @property
    def model(self) -> LlamaModel: ...

    def decode(self, tokens: Sequence[int], pos0: int) -> None: ...

    def logits(self) -> NDArray[np.float32]: ...


class Limits(TypedDict):
    """What a text may be."""

    max_tokens: int
    stop: NotRequired[Sequence[str]]  # it ends before one of these
    constrain: NotRequired[Constraint | None]


@dataclass(frozen=True)
class Proposal:
    """A written text as another tier verifies it."""

    draws: tuple[Draw, ...]  # the choices, with one that ends the text
    read: tuple[int, ...]  # the tokens whose KV it takes to make those choices again


class Writer:
    """Writes one text after a prompt of `len(prompt)` tokens that `context` holds.

    After `run`: `tokens` and `text` belong together byte for byte, `fed` are
    the tokens that went into the cache, `draws` the choices that were made,
    `own` of them by this writer's model against or without a proposal.
    """

    def __init__(
        self,
        context: Reader,
        prompt_length: int,
        sampler: Sampler,
        *,
        on_text: Callable[[str], None] | None = None,
        replay: Sequence[Draw] = (),
        keep: bool = False,
        **limits: Unpack[Limits],
    ) -> None:
        """`keep` remembers what each token was drawn from, which whoever verifies it needs."""
        self.context = context
        self.model = context.model
        self.prompt_length = prompt_length
        self.sampler = sampler
        max_tokens, constrain = limits["max_tokens"], limits.get("constrain")
        self.stream = TextStream(limits.get("stop", ()), on_text)
        self.guide: Guide | None = constrain.start(self.model) if constrain is not None else None
        reserve = self.guide.reserve if self.guide is not None else 0
        self.room = max(max_tokens, reserve)  # tokens the text can come to
        self._free_tokens = max_tokens - reserve
        self.tokens: list[int] = []
        self.fed: list[int] = []
        self.draws: list[Draw] = []
        self.own = 0
        self.reason: StopReason | None = None  # what ended the text
        self._pending: list[int] = []
        self._path: list[int] = []  # `tokens`, with those of a stop string that ended the text
        self._read = 0  # of the path
        self._replay, self._proposed = deque(replay), deque[Draw]()
        self._keep = keep

    def run(self) -> StopReason:
        """Write until something ends the text, and say what."""
        while self.reason is None:
            self._go_on()
        return self.reason

    def run_own(self, n: int) -> None:
        """Write until `n` more tokens are chosen by this writer's own model, or the text ends.

        With a proposal and n = 1 that is the choice that was rejected, or the one behind it.
        """
        until = self.own + n
        while self.reason is None and self.own < until:
            self._go_on()

    def propose(self, draws: Iterable[Draw]) -> None:
        """Verify `draws`, the next choices of a draft that has made the same ones so far."""
        self._proposed = deque(draws)

    def proposal(self) -> Proposal:
        """The text so far as another tier verifies it."""
        path = self._path if self.reason is None else self._path[: self._read]
        return Proposal(tuple(self.draws), tuple(path))

    def _go_on(self) -> None:
        self.reason = self._take_forced() or self._end_at_limit() or self._write_one()
        if self.reason is not None:
            self.stream.finish()

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
        guide = self.guide
        token = self._choose()
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
                self._path, self._read = list(self.tokens), len(self.fed)
                guide.rewind(bytes(self.stream.data))
                guide.end_thought()
                break
        return None

    def _choose(self) -> int:
        """The next token: another writer's, or the model's own choice of what the guide allows."""
        if self._replay:
            self.draws.append(self._replay.popleft())
            return self.draws[-1].token
        self._feed()
        proposed = self._proposed.popleft() if self._proposed else None
        logits = self.context.logits()
        allowed = None if self.guide is None else self.guide.allowed(logits)
        token = self.sampler.sample(logits, allowed, proposed)
        self.draws.append(Draw(token, self.sampler.source if self._keep else None))
        if proposed is None or proposed.token != token:
            self._proposed.clear()
            self.own += 1
        return token

    def _append(self, token: int, may_stop: bool = True) -> bool:
        """Write a token; True when it completed a stop string, which is then cut off."""
        self.tokens.append(token)
        self._path.append(token)
        self._pending.append(token)
        return self.stream.push(self.model.token_bytes(token), may_stop)

    def _feed(self) -> None:
        """Run what was written and is not yet in the cache through the model."""
        if not self._pending:
            return
        self.context.decode(self._pending, self.prompt_length + len(self.fed))
        self.fed += self._pending
        self._pending = []
        self._read = len(self._path)

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
