"""What answers hold, in OpenAI's form; the OpenAPI document describes them from here.

What OpenAI's form has no place for stands below `edge_router`: which tier wrote, why, and where
the time went.
"""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # the one that pydantic reads on Python 3.11

Finish = Literal["stop", "length", "tool_calls"]


class CallBody(TypedDict):
    name: str
    arguments: str


class ToolCallBody(TypedDict):
    index: NotRequired[int]  # in a stream
    id: str
    type: Literal["function"]
    function: CallBody


class MessageBody(TypedDict):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: NotRequired[list[ToolCallBody]]


class DeltaBody(TypedDict, total=False):
    role: Literal["assistant"]
    content: str
    tool_calls: list[ToolCallBody]


class LikelyBody(TypedDict):
    token: str
    logprob: float
    bytes: list[int]


class TokenBody(LikelyBody):
    top_logprobs: list[LikelyBody]


class ChatLogprobs(TypedDict):
    content: list[TokenBody]


class TextLogprobs(TypedDict):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class ChatChoice(TypedDict):
    index: Literal[0]
    message: MessageBody
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChunkChoice(TypedDict):
    index: Literal[0]
    delta: DeltaBody
    logprobs: NotRequired[ChatLogprobs | None]
    finish_reason: Finish | None


class TextChoice(TypedDict):
    index: Literal[0]
    text: str
    logprobs: NotRequired[TextLogprobs | None]
    finish_reason: Finish | None


class PromptDetails(TypedDict):
    cached_tokens: int


class UsageBody(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class RoutingBody(TypedDict):
    """Which tier wrote, and why; `latency` has milliseconds and tokens of every stage."""

    tier: str
    tier_index: int
    escalated: bool
    reason: str
    escalation_rate: float
    latency: dict[str, float]


class CostsBody(TypedDict):
    usage: UsageBody
    edge_router: RoutingBody


class HeadBody(TypedDict):
    id: str
    created: int
    model: str


class ChatCompletion(HeadBody, CostsBody):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextCompletion(HeadBody, CostsBody):
    object: Literal["text_completion"]
    choices: list[TextChoice]


class _ChunkEnd(HeadBody):
    usage: NotRequired[UsageBody]  # in a chunk of its own, where stream_options asks for it
    edge_router: NotRequired[RoutingBody]  # in the last chunk of the text


class ChatChunk(_ChunkEnd):
    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice]


class TextChunk(_ChunkEnd):
    object: Literal["text_completion"]
    choices: list[TextChoice]


class ModelBody(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[ModelBody]


class Health(TypedDict):
    status: Literal["ok"]
    waiting: int


class ErrorFields(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    error: ErrorFields
