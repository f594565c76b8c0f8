"""A conversation whose every response is routed, as an episode's steps are.

The messages go through the model's own chat template; the low tier reads them,
the router decides, and the chosen tier writes. What the router knows of
earlier responses (who wrote them, how sure of them) is remembered as long as the messages go
on where the last ones ended, and so is the KV cache.

    conversation = Conversation(ladder)
    response = conversation.answer(messages, router, Sampler(), max_tokens=64)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge_router.agent.events import Event, Latency, TextDecoded
from edge_router.agent.history import History, Past
from edge_router.agent.prompt import Prompt
from edge_router.agent.step_writer import StepWriter, Written
from edge_router.agent.template import ChatTemplate
from edge_router.engine.generate import StopReason
from edge_router.engine.ladder import Ladder
from edge_router.engine.sampling import Sampler
from edge_router.errors import UserError
from edge_router.router.base import Router
from edge_router.tasks.parse import Parsed
from edge_router.tasks.protocol import Message
from edge_router.tasks.registry import find_task, tasks
from edge_router.tasks.styles import style_for

# A router hears of a conversation's length as a share of this; trained ones learnt it from
# episodes of as many steps.
USUAL_STEPS = 50


@dataclass(frozen=True)
class Response:
    """An answer, who wrote it and why, and where the time went."""

    text: str  # without space around it, as templates want to have it back
    tier: str  # its name, "q8_0"
    tier_index: int  # 0 is the low tier
    reason: str  # the router's, "p 0.87 >= 0.50"
    latency: Latency  # milliseconds and tokens of each stage
    prompt_tokens: int
    stop_reason: StopReason

    @property
    def escalated(self) -> bool:
        """Whether a higher tier than the low one wrote it."""
        return self.tier_index > 0


@dataclass(frozen=True)
class _Form:
    """What an answer may be; `parse` finds thought and action in it, for the router."""

    parse: Callable[[str], Parsed]
    max_tokens: int
    stop: tuple[str, ...]


class Conversation:
    """Answers messages on a ladder; one answer at a time."""

    def __init__(self, ladder: Ladder, *, prompt: str = "") -> None:
        """`prompt` is the prompt style, "" what the GGUF says. Raises `UserError`."""
        self._ladder = ladder
        self._style = style_for(find_task(), ladder.vocab.metadata, prompt)
        self._template = ChatTemplate.of(ladder.vocab)
        self._messages: list[Message] = []  # of the last call, with its answer
        self._past: dict[int, Past] = {}  # index of an answer in them -> how it was written
        self._router: Router | None = None

    def answer(
        self,
        messages: Sequence[Message],
        router: Router,
        sampler: Sampler,
        *,
        dial: float = 0.5,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        on_text: Callable[[str], None] | None = None,
    ) -> Response:
        """The answer to `messages`, with `on_text` called for each piece of it.

        It ends at the model's own end, before a `stop` string, after
        `max_tokens`, or where the context is full. Raises `UserError` for
        messages that are none, or leave the context no room.
        """
        _check(messages)
        known = _common_prefix(self._messages, messages)
        self._past = {index: past for index, past in self._past.items() if index < known}
        if not self._past or router is not self._router:
            router.reset(self._ladder.names, sampler.seed)
        self._router = router
        prompt = Prompt(self._template, self._ladder.vocab, messages, shared=_shared(messages))
        tokens = prompt.tokens
        room = self._ladder.n_ctx - len(tokens)
        if room < 1:
            raise UserError(
                f"the messages have {len(tokens)} tokens and the context holds "
                f"{self._ladder.n_ctx}: leave old messages out, or load the model with a larger one"
            )
        history, show = self._history(messages, dial), _pieces(on_text)
        writer = StepWriter(self._ladder, router, sampler, history, show, lambda: dial)
        form = _Form(self._style.parse, min(max_tokens, room), tuple(stop))
        written = writer.write(_answers(messages), tokens, form, opening=prompt.opening)
        self._remember(messages, written, len(tokens), writer.sampler.confidence())
        return self._response(written, len(tokens))

    def _history(self, messages: Sequence[Message], dial: float) -> History:
        """The earlier answers as a router's history; of those unknown, only their words."""
        history = History(USUAL_STEPS, dial)
        roles = [message["role"] for message in messages]
        first = roles.index("assistant") if "assistant" in roles else len(messages)
        history.begin("\n".join(message["content"] for message in messages[:first]))
        for index in range(first, len(messages)):
            if roles[index] != "assistant":
                continue
            text = messages[index]["content"]
            past = self._past.get(index) or _unknown(text, self._style.parse(text))
            reply = messages[index + 1]["content"] if index + 1 < len(messages) else ""
            refused = any(task.refused(reply) for task in tasks())
            history.add(replace(past, reply=reply, refused=refused))
        return history

    def _remember(
        self,
        messages: Sequence[Message],
        written: Written,
        prompt_tokens: int,
        confidence: tuple[float, float],
    ) -> None:
        text, (min_p, nll) = written.generation.text.strip(), confidence
        self._messages = [*messages, {"role": "assistant", "content": text}]
        self._past[len(messages)] = replace(
            _unknown(text, self._style.parse(text)),
            tier=written.decision.tier,
            prompt_tokens=prompt_tokens,
            entropy=written.features["entropy"],
            min_p=min_p,
            nll=nll,
        )

    def _response(self, written: Written, prompt_tokens: int) -> Response:
        tier = written.decision.tier
        return Response(
            text=written.generation.text.strip(),
            tier=self._ladder.names[tier],
            tier_index=tier,
            reason=written.decision.reason,
            latency=written.latency(),
            prompt_tokens=prompt_tokens,
            stop_reason=written.generation.stop_reason,
        )


def _shared(messages: Sequence[Message]) -> list[Message]:
    """What other conversations begin with as well: the system's messages, before any other word.

    With an empty user's message, for the templates that take no conversation without one.
    """
    roles = [message["role"] for message in messages]
    count = next((i for i, role in enumerate(roles) if role != "system"), 0)
    return [*messages[:count], {"role": "user", "content": ""}] if count else []


def _pieces(on_text: Callable[[str], None] | None) -> Callable[[Event], None]:
    """A listener that hands the text on, from its first letter on."""
    begun = False

    def emit(event: Event) -> None:
        nonlocal begun
        if on_text is None or not isinstance(event, TextDecoded):
            return
        piece = event.text if begun else event.text.lstrip()
        begun = begun or bool(piece)
        if piece:
            on_text(piece)

    return emit


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise UserError("a conversation needs at least one message")
    for message in messages:
        if not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise UserError(
                f'a message is {{"role": "user", "content": "..."}}, not {str(message)[:80]}'
            )
    if messages[-1]["role"] == "assistant":
        raise UserError("the last message is the assistant's; add the message it should answer")


def _unknown(text: str, parsed: Parsed) -> Past:
    """An answer of which nothing but the text is known: taken for the low tier's, and sure."""
    return Past(text, parsed.action, "", False, 0, 0, entropy=0.0, min_p=1.0, nll=0.0)


def _answers(messages: Sequence[Message]) -> int:
    return sum(message["role"] == "assistant" for message in messages)


def _common_prefix(a: Sequence[Message], b: Sequence[Message]) -> int:
    for index, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return index
    return min(len(a), len(b))
