"""A conversation whose every response is routed, as an episode's steps are.

The messages go through the model's own chat template; the low tier reads them,
the router decides, and the chosen tier writes. What the router knows of
earlier responses (who wrote them, how sure of them) is remembered as long as the messages go
on where the last ones ended, and so is the KV cache.

    conversation = Conversation(ladder)
    response = conversation.answer(messages, router, Asked(Sampler(), max_tokens=64))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edge_router.agent.events import Event, Listener, StepFinished, TextDecoded
from edge_router.agent.history import History, Past
from edge_router.agent.messages import (
    USUAL_STEPS,
    ChatMessage,
    history_of,
    only_words,
    prompt_of,
)
from edge_router.agent.response import Response, TokenChance, chances
from edge_router.agent.step_writer import StepWriter, Written
from edge_router.agent.template import ChatTemplate
from edge_router.agent.tool_calls import Tool, names_of, parse, text_of
from edge_router.engine.constrain import Constraint
from edge_router.engine.ladder import Ladder
from edge_router.engine.sampling import Sampler
from edge_router.engine.slots import Slots
from edge_router.engine.tier import Generation
from edge_router.errors import UserError
from edge_router.router.base import Router
from edge_router.tasks.parse import Parsed
from edge_router.tasks.registry import find_task, style_for

__all__ = ["Asked", "ChatMessage", "Conversation", "Response", "TokenChance"]

_SHORT: Final = 16  # letters a token, up to which nothing needs to be counted


@dataclass(frozen=True)
class Asked:
    """How an answer is drawn, what it may be, and where it ends at the latest."""

    sampler: Sampler
    dial: float = 0.5
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    tools: Sequence[Tool] = ()  # functions that the answer may call
    constraint: Constraint | None = None
    lookup: int = 0  # tokens guessed at a time from the text itself; 0: none
    likely: int | None = None  # tell each token's probability, and so many likely ones beside it


@dataclass(frozen=True)
class _Form:
    """What an answer may be; `parse` finds thought and action in it, for the router."""

    parse: Callable[[str], Parsed]
    max_tokens: int
    stop: tuple[str, ...]


@dataclass(frozen=True)
class _Read:
    """A prompt as it is read, what was written after it, and the tokens of both."""

    prompt: str
    tokens: list[int]
    opening: int = 0  # so many of the tokens are what other conversations begin with as well
    answer: str = ""  # without space around it

    def with_answer(self, written: Generation) -> _Read:
        """The same with what was written."""
        return replace(self, tokens=[*self.tokens, *written.tokens], answer=written.text.strip())

    def rest(self, text: str) -> str | None:
        """What follows in a text that goes on from there; None for another text."""
        prompt = self.prompt.rstrip()  # templates may show the space at its end otherwise
        answer = text[len(prompt) :].lstrip()
        if not self.tokens or not text.startswith(prompt) or not answer.startswith(self.answer):
            return None
        return answer[len(self.answer) :]


class Conversation:
    """Answers messages on a ladder; one answer at a time."""

    def __init__(self, ladder: Ladder, *, prompt: str = "", slots: Slots | None = None) -> None:
        """`prompt` is the prompt style, "" what the GGUF says. Raises `UserError`.

        `slots` are shared by the conversations that take turns on the ladder.
        """
        self._ladder = ladder
        self._slots = slots or Slots(ladder, 1)
        self._style = style_for(find_task(), ladder.vocab.metadata, prompt)
        self._template = ChatTemplate.of(ladder.vocab)
        self.messages: list[ChatMessage] = []  # of the last call, with its answer
        self._past: dict[int, Past] = {}  # index of an answer in them -> how it was written
        self._router: Router | None = None
        self._read = _Read("", [])

    def answer(
        self,
        messages: Sequence[ChatMessage],
        router: Router,
        asked: Asked,
        on_text: Callable[[str], None] | None = None,
        listeners: Sequence[Listener] = (),
    ) -> Response:
        """The answer to `messages`, with `on_text` called for each piece of it.

        `listeners` hear the events of one step. It ends at the model's own end, before a stop
        string, after `max_tokens`, or where the context is full. Raises `UserError` for messages
        that are none, or leave the context no room.
        """
        _check(messages)
        told = [text_of(message) for message in messages] + [str(tool) for tool in asked.tools]
        self._require_room(told, len(messages))
        known = common_messages(self.messages, messages)
        self._past = {index: past for index, past in self._past.items() if index < known}
        if not self._past or router is not self._router:
            router.reset(self._ladder.names, asked.sampler.seed)
        self._router = router
        read = self._prompt(messages, asked.tools)
        history = history_of(messages, asked.dial, self._style.parse, self._past)
        heard = [_pieces(on_text, trimmed=True), *listeners]
        written, response = self._write(_answers(messages), read, history, router, asked, heard)
        if asked.tools:
            said, calls = parse(response.text, names_of(asked.tools))
            response = replace(response, text=said, tool_calls=calls)
        self._remember(messages, response, written)
        self._read = read.with_answer(written.generation)
        return response

    def complete(
        self,
        text: str,
        router: Router,
        asked: Asked,
        on_text: Callable[[str], None] | None = None,
        listeners: Sequence[Listener] = (),
    ) -> Response:
        """How a model goes on after `text`, without a chat template; nothing is remembered."""
        self._require_room([text])
        vocab = self._ladder.vocab
        tokens = vocab.tokenize(text, add_special=True) or [max(vocab.bos_id, 0)]
        read = _Read(text, tokens)
        router.reset(self._ladder.names, asked.sampler.seed)
        self._router, self.messages, self._past = None, [], {}
        history = History(USUAL_STEPS, asked.dial)
        history.begin(text)
        heard = [_pieces(on_text, trimmed=False), *listeners]
        written, response = self._write(0, read, history, router, asked, heard)
        return replace(response, text=written.generation.text)

    def _require_room(self, texts: Sequence[str], messages: int = 0) -> None:
        """Refuse what cannot fit before it is rendered and tokenised: 4 MB took 30 s.

        A message has a token at least, and no token more letters than the longest.
        """
        n_ctx, letters = self._ladder.n_ctx, sum(map(len, texts))
        fits = letters <= n_ctx * _SHORT or letters <= n_ctx * self._ladder.vocab.longest_piece
        if messages > n_ctx or not fits:
            raise ContextFullError(
                f"the messages have far more tokens than the {n_ctx} that the context holds: "
                "leave most of them out, or load the model with a larger one"
            )

    def _prompt(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> _Read:
        """What the model reads; what it read or wrote before keeps its tokens."""
        vocab = self._ladder.vocab
        prompt = prompt_of(messages, tools, vocab, self._template)
        tokens, rest = prompt.tokens, self._read.rest(prompt.lead)
        if rest is not None:
            tokens = [*self._read.tokens, *vocab.tokenize(rest)]
        return _Read(prompt.lead, tokens, opening=prompt.opening)

    def _write(
        self,
        step: int,
        read: _Read,
        history: History,
        router: Router,
        asked: Asked,
        listeners: Sequence[Listener],
    ) -> tuple[Written, Response]:
        def emit(event: Event) -> None:
            for listener in listeners:
                listener(event)

        tokens = read.tokens
        room = self._ladder.n_ctx - len(tokens)
        if room < 1:
            raise ContextFullError(
                f"the messages have {len(tokens)} tokens and the context holds "
                f"{self._ladder.n_ctx}: leave old messages out, or load the model with a larger one"
            )
        self._slots.make_way(tokens, self)
        place = self._ladder, router, asked.sampler, history, emit, lambda: asked.dial
        writer = StepWriter(*place, lookup=asked.lookup)
        writer.sampler.likely = asked.likely or 0
        form = _Form(self._style.parse, min(asked.max_tokens, room), tuple(asked.stop))
        written = writer.write(step, tokens, form, asked.constraint, opening=read.opening)
        response = Response.of(self._ladder.names, written, len(tokens), writer.sampler)
        emit(self._finished(step, written, response))
        if asked.likely is not None:
            told = chances(self._ladder.vocab, written.generation, writer.sampler)
            response = replace(response, chances=told)
        return written, response

    def _finished(self, step: int, written: Written, response: Response) -> StepFinished:
        text, draft = written.generation.text, written.draft
        parsed = self._style.parse(text)
        return StepFinished(
            step=step,
            tier=response.tier,
            tier_index=response.tier_index,
            text=text,
            thought=parsed.thought,
            action=parsed.action,
            observation="",
            refused=False,
            done=False,
            won=False,
            latency=response.latency,
            draft_action=None if draft is None else self._style.parse(draft.text).action,
            passes=written.passes,
        )

    def _remember(
        self, messages: Sequence[ChatMessage], response: Response, written: Written
    ) -> None:
        text = written.generation.text.strip()
        self.messages = [*messages, response.message()]
        self._past[len(messages)] = replace(
            only_words(text, self._style.parse(text)),
            tier=response.tier_index,
            prompt_tokens=response.prompt_tokens,
            entropy=written.features["entropy"],
            min_p=response.confidence[0],
            nll=response.confidence[1],
        )


class ContextFullError(UserError):
    """The messages leave no room for an answer."""


def _pieces(on_text: Callable[[str], None] | None, *, trimmed: bool) -> Listener:
    """A listener that hands the text on, where it is trimmed from its first letter on."""
    begun = not trimmed

    def emit(event: Event) -> None:
        nonlocal begun
        if on_text is None or not isinstance(event, TextDecoded):
            return
        piece = event.text if begun else event.text.lstrip()
        begun = begun or bool(piece)
        if piece:
            on_text(piece)

    return emit


def _check(messages: Sequence[Any]) -> None:
    if not messages:
        raise UserError("a conversation needs at least one message")
    for message in messages:
        found = message if isinstance(message, Mapping) else {}
        if not all(isinstance(found.get(key), str) for key in ("role", "content")):
            raise UserError(
                f'a message is {{"role": "user", "content": "..."}}, not {str(message)[:80]}'
            )
    if messages[-1]["role"] == "assistant":
        raise UserError("the last message is the assistant's; add the message it should answer")


def _answers(messages: Sequence[ChatMessage]) -> int:
    return sum(message["role"] == "assistant" for message in messages)


def common_messages(a: Sequence[ChatMessage], b: Sequence[ChatMessage]) -> int:
    """With how many messages both begin."""
    for index, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return index
    return min(len(a), len(b))
