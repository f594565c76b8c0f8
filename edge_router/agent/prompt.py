"""The prompt of an episode as tokens: it only grows, and nothing is tokenised twice.

Turn 0 is the opening up to where the model answers; every later turn is the
model's answer (the very tokens it wrote), the environment's reply and the
lead-in to the next answer. So the KV cache of all earlier turns stays valid,
and the oldest turns can be dropped at a turn's boundary when the context is
full: the opening and the first step (in which our model writes its plan) stay.

Some templates rewrite history (Qwen3 drops earlier reasoning, and prints an
empty one before each answer). Their text is no prefix of the next prompt; it
is then rendered and tokenised anew, and the ladder keeps the common prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edge_router.agent.styles import Message
from edge_router.agent.template import ChatTemplate

FIRST_DROPPED = 2  # turns 0 and 1 stay: the opening, and the first step with its reply


class Tokenizer(Protocol):
    """What the prompt needs of a model's vocabulary."""

    @property
    def adds_bos(self) -> bool: ...

    @property
    def bos_id(self) -> int: ...

    def tokenize(self, text: str) -> list[int]: ...


class Prompt:
    """`tokens` is the prompt for the next step."""

    def __init__(
        self, template: ChatTemplate, tokenizer: Tokenizer, opening: Sequence[Message]
    ) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self._opening = list(opening)
        self._exchanges: list[list[Message]] = []  # a step's answer and the reply to it
        self._text = template.render(self._opening)
        self._turns: list[list[int]] | None = [self._whole(self._text)]
        self.tokens: list[int] = list(self._turns[0])

    @property
    def lead(self) -> str:
        """The text right before the model's answer."""
        return self._text

    @property
    def turns(self) -> int:
        return 1 + len(self._exchanges)

    def add(self, written: Sequence[int], text: str, reply: Message) -> None:
        """Append a step: the tokens the model wrote, their `text`, and the reply."""
        self._exchanges.append([{"role": "assistant", "content": text.strip()}, reply])
        before, self._text = self._text + text, self._render()
        if self._turns is None or not self._text.startswith(before):
            self._turns, self.tokens = None, self._whole(self._text)
            return
        turn = [*written, *self._tokenizer.tokenize(self._text[len(before) :])]
        self._turns.append(turn)
        self.tokens = self.tokens + turn

    def drop_oldest(self, limit: int) -> tuple[int, int]:
        """Drop the oldest turns until at most `limit` tokens are left.

        Returns (turns, tokens) dropped; the opening, the first step and the
        newest turn always stay, so the result may still be too long.
        """
        turns, before = 0, len(self.tokens)
        while len(self.tokens) > limit and len(self._exchanges) > FIRST_DROPPED:
            del self._exchanges[FIRST_DROPPED - 1]
            turns += 1
            self._text = self._render()
            if self._turns is None:
                self.tokens = self._whole(self._text)
            else:
                del self._turns[FIRST_DROPPED]
                self.tokens = [token for turn in self._turns for token in turn]
        return turns, before - len(self.tokens)

    def _render(self) -> str:
        messages = [*self._opening, *(m for pair in self._exchanges for m in pair)]
        return self._template.render(messages)

    def _whole(self, text: str) -> list[int]:
        tokens = self._tokenizer.tokenize(text)
        bos = self._tokenizer.bos_id
        if self._tokenizer.adds_bos and bos >= 0 and tokens[:1] != [bos]:
            return [bos, *tokens]
        return tokens
