"""Make the last part of a text one of some given strings, by a prefix trie over their tokens.

A step is a free thought, then a marker ("\\n>"), then an action. `Choices`
lets the thought be and, once the marker is written, leaves only the tokens that
keep the action a prefix of an admissible command: a few dozen token ids a step,
picked out of the logits, where a grammar would walk the whole vocabulary. The
text is guaranteed to end in marker, space and exactly one of the choices:

- a thought that ends early, or takes all the room, gets the marker written;
- a token that holds the marker and more is accepted if the rest begins a
  choice, and cut back to the marker otherwise;
- where only one token is possible it is taken without asking the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class ConstraintVocabulary(Protocol):
    """What a constraint needs of a model's vocabulary."""

    @property
    def eog_ids(self) -> tuple[int, ...]:
        """Tokens that end a generation."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """What the token writes; a token may hold a part of a character."""
        ...

    def tokenize_after(self, text: str) -> list[int]:
        """Token ids whose bytes are exactly `text`, for text that continues a text."""
        ...


class Guide(Protocol):
    """A constraint at work on one text: what may come next, given what was written."""

    done: bool  # nothing more may come

    @property
    def reserve(self) -> int:
        """Tokens to keep free at the end, for what has to come there."""
        ...

    @property
    def free(self) -> bool:
        """Whether the text may end where the model, a stop string or the limit ends it."""
        ...

    def take_forced(self) -> list[int]:
        """Tokens that follow without a choice; they count as accepted."""
        ...

    def allowed(self, logits: NDArray[np.float32] | None = None) -> NDArray[np.intp] | None:
        """Token ids that may come next, shape (n,), with those that end the text; None for all.

        With the model's `logits`, of shape (n_vocab,), the likely ones of them are enough.
        """
        ...

    def accept(self, token: int) -> list[int]:
        """Take a sampled token (no end of generation); returns the tokens to write for it."""
        ...

    def rewind(self, data: bytes) -> None:
        """The text was cut back to `data` (at a stop string); only while `free`."""
        ...

    def end_thought(self) -> None:
        """The free part ends here; only while `free`."""
        ...


class Constraint(Protocol):
    """What a text has to be."""

    def start(self, vocabulary: Any) -> Guide:
        """The constraint at the start of a text of a model with this vocabulary."""
        ...


class TokenTrie:
    """Prefix trie over token sequences; nodes are numbers, the root is 0."""

    def __init__(self, sequences: Iterable[Sequence[int]]) -> None:
        self._children: list[dict[int, int]] = [{}]
        self._ends: set[int] = set()
        self._allowed: dict[int, NDArray[np.intp]] = {}
        self.longest = 0
        for sequence in sequences:
            self._insert(sequence)
            self.longest = max(self.longest, len(sequence))

    def _insert(self, sequence: Sequence[int]) -> None:
        node = 0
        for token in sequence:
            following = self._children[node]
            if token not in following:
                following[token] = len(self._children)
                self._children.append({})
            node = following[token]
        self._ends.add(node)

    def allowed(self, node: int) -> NDArray[np.intp]:
        """Token ids that may follow, shape (n,), in the order of insertion."""
        ids = self._allowed.get(node)
        if ids is None:
            ids = self._allowed[node] = np.fromiter(self._children[node], dtype=np.intp)
        return ids

    def step(self, node: int, token: int) -> int:
        """The node after `token`; raises KeyError when the token is not allowed."""
        return self._children[node][token]

    def is_end(self, node: int) -> bool:
        """Whether a whole sequence ends here."""
        return node in self._ends


@dataclass(frozen=True)
class Choices(Constraint):
    """After `marker` the text must be `space` and one of `choices`, and then end.

    `lead` is the text right before the generation, for a marker that may begin
    there (a prompt that ends in a newline, and an answer that begins with ">");
    if it ends in the whole marker, the choice comes at once. Raises ValueError
    for no choices, one that is empty or holds a newline, or a marker that is
    empty or not ASCII.
    """

    choices: tuple[str, ...]
    marker: str = "\n>"
    space: str = " "
    lead: str = ""

    def __post_init__(self) -> None:
        if not self.choices or not self.marker or not self.marker.isascii():
            raise ValueError("a constraint needs an ASCII marker and at least one choice")
        for choice in self.choices:
            if not choice or "\n" in choice:
                raise ValueError(f"{choice!r} cannot be a choice")

    def start(self, vocabulary: ConstraintVocabulary) -> Guide:
        """The constraint at the start of a text."""
        return ChoicesGuide(self, vocabulary)


class ChoicesGuide(Guide):
    """`Choices` at work: free up to the marker, then along a trie."""

    def __init__(self, constraint: Choices, vocabulary: ConstraintVocabulary) -> None:
        self._vocabulary = vocabulary
        self._marker = constraint.marker.encode("utf-8")
        self._endings = [constraint.space + c for c in dict.fromkeys(constraint.choices)]
        self._tail = constraint.lead.encode("utf-8")[-len(self._marker) :]
        self._whole = self._trie(b"")
        self._trie_now: TokenTrie | None = None
        self._node = 0
        self._forced: list[int] = []
        self._stops = self._end_tokens()
        self.done = False
        # For a marker and the longest choice.
        self._reserve = self._whole.longest + len(vocabulary.tokenize_after(constraint.marker))
        if self._tail == self._marker:
            self._enter(self._whole)

    @property
    def reserve(self) -> int:
        return self._reserve

    @property
    def free(self) -> bool:
        """Whether the thought is still being written."""
        return self._trie_now is None

    def take_forced(self) -> list[int]:
        """Tokens that follow without a choice; they count as accepted."""
        forced, self._forced = self._forced, []
        while not self.done and (token := self._only_token()) is not None:
            self._advance(token)
            forced.append(token)
        return forced

    def allowed(self, logits: NDArray[np.float32] | None = None) -> NDArray[np.intp] | None:
        """Token ids that may come next, shape (n,), with those that end the text; None for all."""
        if self._trie_now is None:
            return None
        ids = self._trie_now.allowed(self._node)
        return np.concatenate([ids, self._stops]) if self._trie_now.is_end(self._node) else ids

    def accept(self, token: int) -> list[int]:
        """Take a sampled token (no end of generation); returns the tokens to write for it."""
        if self._trie_now is None:
            return self._accept_free(token)
        if token in self._stops and self._trie_now.is_end(self._node):
            self.done = True
            return []
        self._advance(token)
        return [token]

    def rewind(self, data: bytes) -> None:
        """The thought was cut back to `data` (at a stop string); only while `free`."""
        self._tail = data[-len(self._marker) :]

    def end_thought(self) -> None:
        """Write the marker now, or what is missing of it."""
        there = next(
            n for n in range(len(self._marker) - 1, -1, -1) if self._tail.endswith(self._marker[:n])
        )
        self._forced = self._vocabulary.tokenize_after(self._marker[there:].decode("utf-8"))
        self._enter(self._whole)

    def _accept_free(self, token: int) -> list[int]:
        # 1. Look for the marker in bytes: it may be spread over several tokens, and one token
        # may hold it with text on both sides.
        piece = self._vocabulary.token_bytes(token)
        window = self._tail + piece
        # The marker must end inside this piece: an earlier one was acted on.
        at = window.find(self._marker, max(0, len(self._tail) - len(self._marker) + 1))
        if at < 0:
            self._tail = window[-len(self._marker) :]
            return [token]
        # 2. What the token wrote beyond the marker is kept if a choice begins so: the model's own
        # tokens stay as they are, and only the remainder of the choices is put into a trie.
        rest = window[at + len(self._marker) :]
        if self._begins_a_choice(rest):
            self._enter(self._trie(rest) if rest else self._whole)
            return [token]
        # 3. Otherwise the token is written anew up to the marker's end, and all choices are open.
        self._enter(self._whole)
        return self._cut(piece[: len(piece) - len(rest)])

    def _begins_a_choice(self, rest: bytes) -> bool:
        try:
            text = rest.decode("utf-8")
        except UnicodeDecodeError:  # it ends inside a character, and tries need whole ones
            return False
        return any(e.startswith(text) for e in self._endings)

    def _cut(self, piece: bytes) -> list[int]:
        try:
            return self._vocabulary.tokenize_after(piece.decode("utf-8"))
        except UnicodeDecodeError:  # the piece begins inside a character: keep the marker alone
            return self._vocabulary.tokenize_after(self._marker.decode("utf-8"))

    def _trie(self, begun: bytes) -> TokenTrie:
        """Trie over what is left of the endings that begin with `begun`."""
        left = [e.encode("utf-8") for e in self._endings]
        texts = [e[len(begun) :].decode("utf-8") for e in left if e.startswith(begun)]
        return TokenTrie([self._vocabulary.tokenize_after(t) if t else [] for t in texts])

    def _enter(self, trie: TokenTrie) -> None:
        self._trie_now, self._node = trie, 0
        self.done = trie.is_end(0) and not trie.allowed(0).size

    def _advance(self, token: int) -> None:
        assert self._trie_now is not None
        self._node = self._trie_now.step(self._node, token)
        self.done = (
            self._trie_now.is_end(self._node) and not self._trie_now.allowed(self._node).size
        )

    def _only_token(self) -> int | None:
        if self._trie_now is None or self._trie_now.is_end(self._node):
            return None
        ids = self._trie_now.allowed(self._node)
        return int(ids[0]) if ids.size == 1 else None

    def _end_tokens(self) -> NDArray[np.intp]:
        """Tokens by which a model ends a line: end of generation, and a newline of one token."""
        newline = self._vocabulary.tokenize_after("\n")
        extra = newline if len(newline) == 1 else []
        return np.array([*self._vocabulary.eog_ids, *extra], dtype=np.intp)
