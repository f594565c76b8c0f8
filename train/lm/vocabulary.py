"""The household LM's vocabulary: an entity is one token, anything else can still be spelled.

    python -m train.lm.vocabulary      # prints the vocabulary's make-up

Order of ids: control tokens, 256 bytes (GPT-2's byte alphabet), words, entities
(" cabinet 12"). Words and entities are user-defined tokens, which llama.cpp and
Hugging Face's tokenizers both cut out of the text before anything else; every
one starts with a space or a newline and none holds another's start inside, so
that the two agree. What is no word falls back to bytes.

`parts` gives each token a (kind, number) pair: the model composes the
embedding of " cabinet 12" from "cabinet" and "12" while it trains (see
`model.py`), so that a rare number of a frequent kind need not be seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from edge_router.tasks.household.facts import item_kinds, receptacle_kinds

USER, AGENT, END, PAD = "<|user|>", "<|agent|>", "<|end|>", "<|pad|>"
CONTROL = (PAD, USER, AGENT, END)
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}<|agent|> {{ m['content'] }}<|end|>"
    "{% else %}<|user|> {{ m['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|agent|>{% endif %}"
)
LINE_STARTS = ("\n>", "\nroom")
WORDS = (
    # openings
    "task", "put", "a", "some", "clean", "hot", "cool", "heat", "it", "and", "two", "find",
    "them", "look", "at", "under", "the", "examine", "with", "in", "on", "to",
    # replies
    "closed", "nothing", "happens", "took", "from", "moved", "cleaned", "heated", "cooled", "used",
    # thoughts and actions
    "plan", "no", "see", "here", "wrong", "bring", "go", "open", "take", "move", "use", "close",
    "slice", "inventory", "help",
)  # fmt: skip
MOST = {"cabinet": 32, "drawer": 32, "shelf": 20}  # the official train split has 27, 27 and 14
MOST_OTHERS = 8

_PIECE = re.compile(r"<\|\w+\|>| [a-z]+ \d+| [a-z]+|\n>|\nroom|.", re.DOTALL)


@cache
def byte_alphabet() -> tuple[str, ...]:
    """GPT-2's printable stand-in for each byte value."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in printable}
    spare = iter(range(256, 512))
    return tuple(table[b] if b in table else chr(next(spare)) for b in range(256))


@dataclass(frozen=True)
class HouseholdVocabulary:
    tokens: tuple[str, ...]  # text of every token; bytes by their stand-in
    parts: tuple[tuple[int, int], ...]  # (kind id, number) of every token; number 0: none
    n_kinds: int
    first_word: int  # ids from here on are user-defined tokens

    @property
    def ids(self) -> dict[str, int]:
        return _ids()

    @property
    def n_numbers(self) -> int:
        return 1 + max(number for _, number in self.parts)

    def encode(self, text: str) -> list[int]:
        """Token ids; agrees with llama.cpp and with Hugging Face's tokenizers (tested)."""
        ids, out = _ids(), []
        for piece in _PIECE.findall(text):
            if piece in ids:
                out.append(ids[piece])
            else:
                out.extend(self._spell(piece))
        return out

    def _spell(self, piece: str) -> list[int]:
        """A piece that is no token: its longest start that is one, the rest as bytes."""
        ids = _ids()
        for end in range(len(piece) - 1, 1, -1):
            if piece[:end] in ids:
                return [ids[piece[:end]], *self._bytes(piece[end:])]
        return self._bytes(piece)

    @staticmethod
    def _bytes(text: str) -> list[int]:
        return [len(CONTROL) + b for b in text.encode()]

    def decode(self, ids: list[int]) -> str:
        """Text of ids; byte tokens are decoded together."""
        return b"".join(self._raw(i) for i in ids).decode(errors="replace")

    def _raw(self, i: int) -> bytes:
        if len(CONTROL) <= i < len(CONTROL) + 256:
            return bytes([i - len(CONTROL)])
        return self.tokens[i].encode()


@cache
def vocabulary() -> HouseholdVocabulary:
    """The one vocabulary; deterministic, built from the tables of kinds."""
    kinds = sorted({*receptacle_kinds(), *item_kinds()})
    words = [*LINE_STARTS, *(f" {w}" for w in WORDS)]
    words += [f" {k}" for k in kinds if f" {k}" not in words]
    tokens = [*CONTROL, *byte_alphabet(), *words]
    parts = [(i, 0) for i in range(len(tokens))]
    kind_ids = {f"{t}": i for i, t in enumerate(tokens)}
    for kind in kinds:
        for number in range(1, MOST.get(kind, MOST_OTHERS) + 1):
            tokens.append(f" {kind} {number}")
            parts.append((kind_ids[f" {kind}"], number))
    if len(set(tokens)) != len(tokens):
        raise AssertionError("two tokens share a text, which llama.cpp refuses")
    first_word = len(CONTROL) + 256
    return HouseholdVocabulary(tuple(tokens), tuple(parts), first_word + len(words), first_word)


@cache
def _ids() -> dict[str, int]:
    v = vocabulary()
    single = {t: i for i, t in enumerate(v.tokens[: len(CONTROL)])}
    return single | {t: i for i, t in enumerate(v.tokens) if i >= v.first_word}


def main() -> None:
    v = vocabulary()
    print(f"{len(v.tokens)} tokens: {len(CONTROL)} control, 256 bytes,")
    print(f"{v.n_kinds - v.first_word} words, {len(v.tokens) - v.n_kinds} entities")


if __name__ == "__main__":
    main()
