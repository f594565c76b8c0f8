"""The prompt of an episode as tokens: it only grows, and nothing is tokenised twice.

Turn 0 is the opening; every later turn is a step, that is the lead-in to the
model's answer, the very tokens it wrote and the environment's reply. So the KV
cache of all earlier turns stays valid, and the oldest turns can be dropped at
a turn's boundary when the context is full: the opening and the first step (in
which our model writes its plan) stay. The lead-in to the next answer follows.

Some templates show an answer otherwise once it is history: Qwen3 and the
DeepSeek-R1 models leave out its reasoning, even the empty one that the lead-in
printed. Such a turn is tokenised in its later form, and the ladder computes it
again; all turns before it stay. Should a template change the turns before it
as well, everything is rendered and tokenised anew.

What other episodes begin with as well is the prompt's opening: `opening` says how many tokens it
has, for the ladder, which keeps their KV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from edge_router.agent.template import ChatTemplate
from edge_router.engine.tier import common_prefix
from edge_router.errors import UserError
from edge_router.tasks.protocol import Message

FIRST_DROPPED = 2  # turns 0 and 1 stay: the opening, and the first step with its reply
# A full context is emptied to this share of its room: each time turns are dropped, all that
# follows them is prefilled again, so it must not happen every step.
ROOM_AFTER_DROPPING = 0.75


class Tokenizer(Protocol):
    """What the prompt needs of a model's vocabulary."""

    @property
    def adds_bos(self) -> bool:
        """Whether a text begins with the BOS token."""
        ...

    @property
    def bos_id(self) -> int:
        """The id of the BOS token."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text`, special tokens in it read as one, without BOS."""
        ...


class Prompt:
    """`tokens` is the prompt for the next step."""

    def __init__(
        self,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        opening: Sequence[dict[str, Any]],
        *,
        shared: Sequence[dict[str, Any]] = (),
    ) -> None:
        """`opening` are the first messages, `shared` the same without what is this text's own."""
        self._template = template
        self._tokenizer = tokenizer
        self._opening = list(opening)
        self._exchanges: list[
            list[Message]
        ] = []  # a step's completion and the observation after it
        self._history = self._render(lead=False)
        self._turns: list[list[int]] | None = [self._whole(self._history)]
        self._lead_in()
        self._shared = self._beginning(shared) if shared else []

    @property
    def opening(self) -> int:
        """How many of the first `tokens` depend on nothing but the `shared` messages."""
        shared = self._shared
        return len(shared) if self.tokens[: len(shared)] == shared else 0

    def _beginning(self, shared: Sequence[Message]) -> list[int]:
        """The tokens that this prompt begins with, as would every other with the same messages."""
        try:
            alone = self._template.render(shared, lead=False)
        except UserError:  # a template that takes the whole conversation only
            return []
        tokens = self._whole(alone[: common_prefix(alone, self._history)])
        # a token over the border belongs to this text alone
        return tokens[: common_prefix(tokens, self.tokens)]

    @property
    def lead(self) -> str:
        """The text right before the model's answer."""
        return self._history + self._lead

    @property
    def turns(self) -> int:
        return 1 + len(self._exchanges)

    def add(self, written: Sequence[int], text: str, reply: Message) -> None:
        """Append a step: the tokens the model wrote, their `text`, and the reply."""
        said = text.strip()
        self._exchanges.append([{"role": "assistant", "content": said}, reply])
        before, self._history = self._history, self._render(lead=False)
        if self._turns is not None and self._history.startswith(before):
            self._turns.append(self._turn(self._history[len(before) :], said, written))
        else:
            self._turns = None
        self._lead_in()

    def _turn(self, shown: str, said: str, written: Sequence[int]) -> list[int]:
        """Tokens of a step that the template shows as `shown`."""
        lead = self._lead.rstrip()
        answer = shown[len(lead) :].lstrip()
        if shown.startswith(lead) and answer.startswith(said):
            rest = self._tokenizer.tokenize(answer[len(said) :])
            return [*self._lead_tokens, *written, *rest]
        return self._tokenizer.tokenize(shown)

    def drop_oldest(self, limit: int) -> tuple[int, int]:
        """Drop the oldest turns until at most `limit` tokens are left.

        Returns (turns, tokens) dropped; the opening, the first step and the
        newest turn always stay, so the result may still be too long.
        """
        turns, before = 0, len(self.tokens)
        while len(self.tokens) > limit and len(self._exchanges) > FIRST_DROPPED:
            del self._exchanges[FIRST_DROPPED - 1]
            turns += 1
            self._history = self._render(lead=False)
            if self._turns is not None:
                del self._turns[FIRST_DROPPED]
            self._lead_in()
        return turns, before - len(self.tokens)

    def _lead_in(self) -> None:
        """Set the lead-in to the next answer, and with it `tokens`."""
        whole = self._render(lead=True)
        self._lead = whole.removeprefix(self._history)
        if self._turns is None or not whole.startswith(self._history):
            self._turns, self._history, self._lead = None, whole, ""
            self.tokens = self._whole(whole)
            return
        self._lead_tokens = self._tokenizer.tokenize(self._lead) if self._lead else []
        self.tokens = [t for turn in self._turns for t in turn] + self._lead_tokens

    def _render(self, *, lead: bool) -> str:
        messages = [*self._opening, *(m for pair in self._exchanges for m in pair)]
        return self._template.render(messages, lead=lead)

    def _whole(self, text: str) -> list[int]:
        tokens = self._tokenizer.tokenize(text)
        bos = self._tokenizer.bos_id
        if self._tokenizer.adds_bos and bos >= 0 and tokens[:1] != [bos]:
            return [bos, *tokens]
        return tokens


def make_room(prompt: Prompt, limit: int) -> tuple[int, int]:
    """Drop old turns when the prompt is longer than `limit` tokens; returns (turns, tokens)."""
    if len(prompt.tokens) <= limit:
        return 0, 0
    return prompt.drop_oldest(int(limit * ROOM_AFTER_DROPPING))
