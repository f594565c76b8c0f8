"""Chats as tokens with a mark on those that are learnt.

The tokens are the ones that the agent will feed and write when it plays: they come out of its own
`Prompt`, which tokenises a chat turn by turn. Learnt are the tokens of the expert's steps and the
one that ends them, nothing else; of an episode that a model played (`OwnStep`), those it wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edge_router.agent.prompt import Prompt
from edge_router.agent.template import ChatTemplate
from edge_router.tasks.protocol import PromptStyle
from train.lm.tune.dialogues import Dialogue, OwnStep


@dataclass(frozen=True)
class Sequence:
    """Token ids; `learnt[i]` says whether token i is to be predicted from those before it."""

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]


class ChatTokens:
    """A transformers tokenizer and its chat template, as the agent uses a GGUF's."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.end: int = tokenizer.eos_token_id
        self.bos_id: int = -1 if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        self.adds_bos: bool = tokenizer("a")["input_ids"][0] == self.bos_id

    @cached_property
    def template(self) -> ChatTemplate:
        bos, eos = self._tokenizer.bos_token or "", self._tokenizer.eos_token or ""
        return ChatTemplate(self._tokenizer.chat_template, bos=bos, eos=eos)

    def __getstate__(self) -> dict[str, Any]:
        """Without the template, which may be a process: each worker has one of its own."""
        return {k: v for k, v in self.__dict__.items() if k != "template"}

    def tokenize(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def text(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def prompt(self, dialogue: Dialogue, style: PromptStyle) -> Prompt:
        """The prompt for the first step of an episode."""
        return Prompt(self.template, self, style.opening(dialogue.opening))


def sequences(dialogue: Dialogue, style: PromptStyle, tokens: ChatTokens) -> Iterator[Sequence]:
    """The episode as one sequence, or as several.

    Where a template shows an answer otherwise once it is history (Qwen3 leaves out the empty
    reasoning before it), what the model wrote is not what it later reads: a sequence ends with
    that answer, and the next one begins with the prompt as it is then.
    """
    prompt = tokens.prompt(dialogue, style)
    ids, learnt = list(prompt.tokens), [False] * len(prompt.tokens)
    for turn in dialogue.turns:
        step = turn.written or OwnStep(tokens.tokenize(turn.text), ended=True)
        prompt.add(step.tokens, turn.text, style.reply(turn.observation))
        ids += [*step.tokens, tokens.end]
        learnt += [turn.learnt] * len(step.tokens) + [turn.learnt and step.ended]
        if prompt.tokens[: len(ids)] != ids:
            yield from _learnable(ids, learnt)
            ids, learnt = list(prompt.tokens), [False] * len(prompt.tokens)
        else:
            new = prompt.tokens[len(ids) :]
            ids += new
            learnt += [False] * len(new)
    yield from _learnable(ids, learnt)


def _learnable(ids: list[int], learnt: list[bool]) -> Iterator[Sequence]:
    """The sequence up to the last token that is learnt; none where nothing is."""
    if any(learnt):
        end = len(learnt) - learnt[::-1].index(True)
        yield Sequence(tuple(ids[:end]), tuple(learnt[:end]))
