"""One history of one game, and what each tier writes after it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ANY = -1  # in the place of a tier: whoever wrote, this history comes next


@dataclass(frozen=True, slots=True)
class Writing:
    """What one tier writes after a history, greedily, and how far it is from the high tier."""

    text: str
    tokens: tuple[int, ...]
    action: str
    min_p: float  # probability of its least probable token, in its own eyes
    nll: float  # mean -ln p of its tokens, nats
    decoded: int  # tokens run through the model to write it
    kl_sum: float  # KL(high || this tier) along the high tier's text, nats; 0 for itself
    kl_mean: float
    kl_max: float


@dataclass(frozen=True, slots=True)
class Node:
    """A history: `key` is its hash, `parent` and `tier` say from where and by whose text.

    `tier` is the lowest tier that writes this text, or ANY.
    `features` are ALL_NAMES as the low tier would
    see them had it written every earlier step itself (those with `of_route` are set by whoever
    walks the tree). Where the episode is over, `writings` is empty.
    """

    key: bytes
    parent: bytes | None
    tier: int
    step: int
    reply: str  # the environment's answer that led here; the goal at the root
    refused: bool
    done: bool  # the game is over, or out of steps
    won: bool
    prompt_tokens: int
    features: NDArray[np.float32]
    writings: tuple[Writing, ...]

    def child_key(self, tier: int) -> bytes:
        return child_key(self.key, self.writings[tier].tokens)


def root_key(game_key: str) -> bytes:
    return hashlib.blake2b(game_key.encode(), digest_size=16).digest()


def child_key(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The history that goes on from `parent` with a step of these tokens."""
    packed = struct.pack(f"<{len(tokens)}i", *tokens)
    return hashlib.blake2b(parent + packed, digest_size=16).digest()
