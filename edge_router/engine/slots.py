"""Conversations that take turns on one ladder, and find their KV again.

A ladder has one canonical cache. Whoever talks to a server brings a whole conversation with each
request, and several talk at once; without more, each would drop what the other had read. So the
KV of a conversation that has to make way is kept in memory, and copied back when its next
message comes: 24 ms for 512 tokens at the shape of Qwen3-1.7B, where reading them again takes 9 s.
Of more conversations than there are slots, the one that was last used longest ago is forgotten.

In the handoff modes the low tier's KV is all there is to keep; in exact mode each tier's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_router.engine.ladder import Ladder
from edge_router.engine.tier import Tier, common_prefix

_PIECE: Final = 64  # tokens that are copied at once
# What is shorter is read again sooner than it is found.
_WORTH: Final = 32


@dataclass
class _Kept:
    """A conversation that made way: its tokens, and their KV in pieces, for each kept tier."""

    held: list[list[int]]
    pieces: list[list[bytes]]

    @property
    def tokens(self) -> list[int]:
        """What the low tier had read."""
        return self.held[0]


class Slots:
    """Room for `count` conversations: the one in the ladder's cache, and those that wait."""

    def __init__(self, ladder: Ladder, count: int) -> None:
        self._ladder = ladder
        self._waiting: list[_Kept] = []  # the one used last at the end
        self._room = count - 1
        self._owner: object = None  # whose text is in the cache

    def make_way(self, prompt: Sequence[int], owner: object) -> None:
        """Bring the longest known beginning of `prompt` into the cache, before it is prefilled.

        What the same `owner` read last does not wait for it: it goes on, or is written anew.
        """
        wanted, now = list(prompt), self._ladder.tiers[0].held
        here, goes_on = common_prefix(now, wanted), owner is self._owner
        self._owner = owner
        if self._room < 1 or (goes_on and now):
            return
        best = max(self._waiting, key=lambda kept: common_prefix(kept.tokens, wanted), default=None)
        if best is not None and common_prefix(best.tokens, wanted) < here + _WORTH:
            best = None
        if best is not None:
            self._waiting.remove(best)
        if len(now) - here >= _WORTH:
            self._waiting.append(self._keep())
            del self._waiting[: -self._room]
        if best is not None:
            self._bring_back(best, wanted)

    def clear(self) -> None:
        """Forget the conversations that wait."""
        self._waiting.clear()
        self._owner = None

    @property
    def _tiers(self) -> Sequence[Tier]:
        """The tiers whose KV nobody else could give."""
        tiers = self._ladder.tiers
        return tiers if self._ladder.kv.exact else tiers[:1]

    def _keep(self) -> _Kept:
        kept = _Kept([], [])
        for tier in self._tiers:
            tier.truncate(len(tier.held))  # clears what an interruption left half done
            starts = range(0, len(tier.held), _PIECE)
            ends = [min(start + _PIECE, len(tier.held)) for start in starts]
            kept.held.append(list(tier.held))
            kept.pieces.append(list(map(tier.context.export_span, starts, ends)))
        return kept

    def _bring_back(self, kept: _Kept, prompt: list[int]) -> None:
        self._ladder.rewind(common_prefix(self._ladder.tiers[0].held, kept.tokens))
        for tier, tokens, pieces in zip(self._tiers, kept.held, kept.pieces, strict=True):
            # Whole pieces only, and none behind what the prompt needs.
            tier.truncate(common_prefix(tier.held, tokens) // _PIECE * _PIECE)
            end = common_prefix(tokens, prompt)
            for number in range(len(tier.held) // _PIECE, -(-end // _PIECE)):
                start = number * _PIECE
                piece = tokens[start : start + _PIECE]
                tier.context.import_span(pieces[number], start, start + len(piece))
                tier.held += piece
