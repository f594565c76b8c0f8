"""A conversation's messages as what the model reads, and as what a router may know of them.

`agent.chat` answers them with it, and routers are trained on recorded ones with it, so a router
is asked in service with the very numbers that it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edge_router.agent.history import History, Past
from edge_router.agent.prompt import Prompt
from edge_router.agent.template import ChatTemplate
from edge_router.agent.tool_calls import Tool, in_words, knows_tools, text_of
from edge_router.engine.llama_model import LlamaModel
from edge_router.tasks.parse import Parsed
from edge_router.tasks.registry import tasks

# As chat templates want them: {"role": "user", "content": "..."}; the assistant's may have
# "tool_calls", as `tool_calls.ToolCall.message` makes them.
ChatMessage = Mapping[str, Any]

# A router hears of a conversation's length as a share of this; trained ones learnt it from
# episodes of as many steps.
USUAL_STEPS = 50


def prompt_of(
    messages: Sequence[ChatMessage],
    tools: Sequence[Tool],
    vocab: LlamaModel,
    template: ChatTemplate,
) -> Prompt:
    """The messages through the model's own template, which is told of the tools if it knows any.

    Raises `UserError` when the template refuses them.
    """
    said = [dict(message) for message in messages]
    if knows_tools(vocab.chat_template):
        template = template.telling(tools)
    else:
        said = in_words(said, tools)
    return Prompt(template, vocab, said, shared=_shared(said))


def _shared(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """What other conversations begin with as well: the system's messages, before any other word.

    With an empty user's message, for the templates that take no conversation without one.
    """
    roles = [message["role"] for message in messages]
    count = next((i for i, role in enumerate(roles) if role != "system"), 0)
    return [*map(dict, messages[:count]), {"role": "user", "content": ""}] if count else []


def history_of(
    messages: Sequence[ChatMessage],
    dial: float,
    parse: Callable[[str], Parsed],
    known: Mapping[int, Past],
) -> History:
    """The earlier answers as a router's history; `known` has those that were written here.

    It maps an answer's index in the messages to how it was written. Of the others only their
    words are known.
    """
    history = History(USUAL_STEPS, dial)
    roles = [message["role"] for message in messages]
    texts = [text_of(message) for message in messages]
    first = roles.index("assistant") if "assistant" in roles else len(messages)
    history.begin("\n".join(texts[:first]))
    for index in range(first, len(messages)):
        if roles[index] != "assistant":
            continue
        past = known.get(index) or only_words(texts[index], parse(texts[index]))
        reply = texts[index + 1] if index + 1 < len(messages) else ""
        refused = any(task.refused(reply) for task in tasks())
        history.add(replace(past, reply=reply, refused=refused))
    return history


def only_words(text: str, parsed: Parsed) -> Past:
    """An answer of which nothing but the text is known: taken for the low tier's, and sure."""
    return Past(text, parsed.action, "", False, 0, 0, entropy=0.0, min_p=1.0, nll=0.0)
