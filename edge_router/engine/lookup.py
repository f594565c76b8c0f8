"""Guess how a text goes on from the text itself: prompt lookup decoding.

An agent copies from its prompt: names out of replies, commands it gave before, the words of its
own plan. So what stood behind the newest tokens when they stood there last is a draft that costs
nothing to write. The tier reads it together with the token that it has to read anyway, and takes
what it would have written itself (`engine.verify.DraftReader`): the text is its own, in fewer
batches. Where nothing repeats, nothing is guessed.

After A. Saxena, Prompt Lookup Decoding, 2023 (github.com/apoorvumang/prompt-lookup-decoding);
llama.cpp has it as `llama-lookup`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

LONGEST: Final = 4  # tokens that are looked for; of several places the one that shares most
SHORTEST: Final = 2
# Tokens guessed at a time. Two cores with AVX2 read a batch of 4 at q8_0 in the time of 2.2 tokens.
USUAL: Final = 3


class Lookup:
    """Guesses at the next tokens of one text after a prompt; at most `most` at a time."""

    def __init__(self, prompt: Sequence[int], most: int) -> None:
        if most < 1:
            raise ValueError("a guess has at least one token")
        self._prompt = np.array(prompt, dtype=np.int32)
        self._most = most

    def after(self, text: Sequence[int]) -> list[int]:
        """What may follow after the prompt and `text`; [] where nothing like it was there.

        Of the places where the newest tokens stood before, the one that shares most of them with
        the end is taken, of equals the newest.
        """
        tokens = np.concatenate([self._prompt, np.array(text, dtype=np.int32)])
        starts = np.arange(1, tokens.size)  # where a guess may begin
        found = starts[:0]
        for shared in range(1, LONGEST + 1):
            starts = starts[starts >= shared]
            starts = starts[tokens[starts - shared] == tokens[-min(shared, tokens.size)]]
            if starts.size == 0:
                break
            found = starts if shared >= SHORTEST else found
        if found.size == 0:
            return []
        start = int(found[-1])
        return [int(token) for token in tokens[start : start + self._most]]
