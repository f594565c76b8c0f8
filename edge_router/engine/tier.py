"""What a ladder is made of and what it reports: tiers, the KV mode, a step's costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.generate import Proposal, StopReason
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.tier_sizes import kv_bytes
from edge_router.engine.tier_spec import TierSpec
from edge_router.engine.trust import gguf_sha256
from edge_router.errors import UserError

__all__ = ["Generation", "Ingest", "KvMode", "Tier", "TierSpec", "common_prefix"]


@dataclass(frozen=True)
class KvMode:
    """How a higher tier comes by its KV; `own` is the N of handoff:N, 0 for exact."""

    own: int = 1

    @classmethod
    def parse(cls, text: str) -> KvMode:
        """Read "handoff", "handoff:N" or "exact"; raises `UserError` on anything else."""
        head, colon, count = text.partition(":")
        if text == "exact":
            return cls(0)
        if text == "handoff":
            return cls(1)
        if head == "handoff" and colon and count.isascii() and count.isdigit() and int(count) >= 1:
            return cls(int(count))
        raise UserError(f"unknown KV mode {text!r}: use handoff, handoff:N (N at least 1) or exact")

    @property
    def exact(self) -> bool:
        return self.own == 0

    def __str__(self) -> str:
        if self.exact:
            return "exact"
        return "handoff" if self.own == 1 else f"handoff:{self.own}"


@dataclass
class Tier:
    """A loaded tier; `held` are the tokens whose KV its context holds.

    `opening` are the first of them, where these have the bits of a batch of their own.
    """

    name: str
    path: Path
    model: LlamaModel
    context: LlamaContext
    size_bytes: int
    held: list[int] = field(default_factory=list)
    opening: list[int] = field(default_factory=list)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the GGUF."""
        return gguf_sha256(self.path, parts=self.model.header.parts)

    @property
    def kv_bytes(self) -> int:
        """Memory that the context's KV cache takes, empty or full."""
        return kv_bytes(self.model.header, self.context.cells)

    def again(self) -> Tier:
        """The same weights with an empty KV cache of its own."""
        return Tier(self.name, self.path, self.model, self.context.again(), self.size_bytes)

    def truncate(self, n: int) -> None:
        """Keep the first `n` tokens at most."""
        del self.held[n:]
        if n < len(self.opening):
            self.opening = []
        if self.context.n_past > len(self.held):  # more than was cut, after an interruption
            self.context.truncate(len(self.held))

    def close(self) -> None:
        """Free the memory."""
        self.context.close()
        self.model.close()

    def decode(self, tokens: Sequence[int]) -> None:
        """Append `tokens`, computing their KV."""
        self.context.decode(tokens, len(self.held))
        self.held += tokens

    def decode_rows(self, tokens: Sequence[int], rows: int) -> NDArray[np.float32]:
        """As `decode`, in one batch; the logits of the last `rows` tokens, a view."""
        view = self.context.decode_rows(tokens, len(self.held), rows)
        self.held += tokens
        return view


@dataclass(frozen=True)
class Ingest:
    """What `Ladder.prefill` did."""

    new_tokens: int  # computed now
    kept_tokens: int  # found in the cache
    ms: float  # of computing
    load_tokens: int = 0  # of the opening, found on disk
    load_ms: float = 0.0  # of the disk: looking, loading, or writing what was not there


@dataclass(frozen=True)
class Generation:
    """One step's text and what it cost; `tokens` and `text` hold no end-of-generation token."""

    tokens: tuple[int, ...]
    text: str
    stop_reason: StopReason
    handoff_ms: float
    handoff_tokens: int  # copied from the low tier
    catchup_ms: float
    catchup_tokens: int  # prompt tokens that the chosen tier computed itself
    decode_ms: float
    decode_tokens: int  # tokens run through the model one after another
    proposal: Proposal  # the text as a higher tier verifies it
    draft_ms: float = 0.0  # `speculate`: the low tier's drafts
    draft_tokens: int = 0
    verify_ms: float = 0.0  # drafts read and compared
    verify_tokens: int = 0  # run through the model in batches, the prompt's last ones among them
    verify_batches: int = 0
    drafted: int = 0  # choices of drafts that were put to the tier
    accepted: int = 0  # those of them that it kept

    load_tokens: int = 0  # of the chosen tier's own opening, found on disk
    load_ms: float = 0.0  # as in `Ingest`
    lookup_tokens: int = 0  # guessed by looking them up in the text, and read by the tier
    lookup_accepted: int = 0  # those of them that it wrote

    @property
    def rewritten(self) -> int:
        """Choices that the tier made itself where it verified."""
        return len(self.proposal.draws) - self.accepted if self.verify_batches else 0


def common_prefix(a: Sequence[object], b: Sequence[object]) -> int:
    """Length of the longest common beginning."""
    shorter = min(len(a), len(b))
    if a[:shorter] == b[:shorter]:
        return shorter
    return next(i for i in range(shorter) if a[i] != b[i])
