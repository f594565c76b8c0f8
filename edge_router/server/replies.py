"""Answers in OpenAI's form, whole or in pieces."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from uuid import uuid4

from edge_router.agent.response import Response, TokenChance
from edge_router.agent.tool_calls import may_begin
from edge_router.server.answering import AnswerPlan
from edge_router.server.bodies import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChunkChoice,
    CostsBody,
    DeltaBody,
    ErrorBody,
    Finish,
    HeadBody,
    MessageBody,
    TextChoice,
    TextChunk,
    TextCompletion,
    TextLogprobs,
    TokenBody,
    ToolCallBody,
)

Chunk = ChatChunk | TextChunk


class ReplyForm:
    """How one request is answered."""

    def __init__(self, plan: AnswerPlan, model: str) -> None:
        self.plan, self.model = plan, model
        self._chat = bool(plan.messages)
        prefix = "chatcmpl" if self._chat else "cmpl"
        self._head: HeadBody = {
            "id": f"{prefix}-{uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, response: Response, share: float) -> ChatCompletion | TextCompletion:
        """The answer at once; `share` is the escalation rate so far."""
        costs = _costs(response, share)
        if self._chat:
            chat: ChatChoice = {
                "index": 0,
                "message": _message(response),
                "logprobs": self._chat_logprobs(response),
                "finish_reason": self._finish(response),
            }
            return {**self._head, "object": "chat.completion", "choices": [chat], **costs}
        text: TextChoice = {
            "index": 0,
            "text": response.text,
            "logprobs": self._text_logprobs(response),
            "finish_reason": self._finish(response),
        }
        return {**self._head, "object": "text_completion", "choices": [text], **costs}

    async def pieces(self, texts: AsyncIterator[str]) -> AsyncIterator[Chunk]:
        """The chunks of the text, as it grows; what may become a call is held back."""
        if self._chat:
            yield self._chunk({"role": "assistant", "content": ""})
        held, shown = "", 0
        async for text in texts:
            if not self.plan.tools:
                yield self._chunk({"content": text})
                continue
            held += text
            sure = may_begin(held)
            if sure > shown:
                yield self._chunk({"content": held[shown:sure]})
                shown = sure
        self._shown = shown

    def endings(self, response: Response, share: float, *, usage: bool) -> list[Chunk]:
        """The last chunks: calls, the end, and what it took."""
        chunks = []
        rest = response.text[self._shown :] if self.plan.tools else ""
        if rest.strip():
            chunks.append(self._chunk({"content": rest}))
        if response.tool_calls:
            calls: list[ToolCallBody] = [
                {**call, "index": i} for i, call in enumerate(_calls(response))
            ]
            chunks.append(self._chunk({"tool_calls": calls}))
        costs = _costs(response, share)
        last = self._chunk({}, response)
        last["edge_router"] = costs["edge_router"]
        chunks.append(last)
        if usage:
            told = self._chunk({})
            told["choices"], told["usage"] = [], costs["usage"]
            chunks.append(told)
        return chunks

    def _chunk(self, delta: DeltaBody, end: Response | None = None) -> Chunk:
        """A piece of the answer; `end` is the answer that ends with it."""
        finish = None if end is None else self._finish(end)
        if not self._chat:
            text: TextChoice = {
                "index": 0,
                "text": delta.get("content", ""),
                "finish_reason": finish,
            }
            if end is not None:
                text["logprobs"] = self._text_logprobs(end)
            return _text_chunk(self._head, text)
        choice: ChunkChoice = {"index": 0, "delta": delta, "finish_reason": finish}
        if end is not None:
            choice["logprobs"] = self._chat_logprobs(end)
        return _chat_chunk(self._head, choice)

    def _finish(self, response: Response) -> Finish:
        if response.tool_calls:
            return "tool_calls"
        # A grammar is cut short by the limit alone.
        limit = self.plan.options["max_tokens"]
        cut = response.stop_reason == "max_tokens" or (
            response.stop_reason == "constraint" and response.completion_tokens >= limit
        )
        return "length" if cut else "stop"

    def _chat_logprobs(self, response: Response) -> ChatLogprobs | None:
        if self.plan.options.get("likely") is None:
            return None
        return {"content": [_chance(chance) for chance in response.chances]}

    def _text_logprobs(self, response: Response) -> TextLogprobs | None:
        if self.plan.options.get("likely") is None:
            return None
        starts, at = [], len(self.plan.prompt)
        for chance in response.chances:
            starts.append(at)
            at += len(_text(chance.piece))
        return {
            "tokens": [_text(chance.piece) for chance in response.chances],
            "token_logprobs": [chance.logprob for chance in response.chances],
            "top_logprobs": [{_text(p): lp for p, lp in c.likely} for c in response.chances],
            "text_offset": starts,
        }


def _chat_chunk(head: HeadBody, choice: ChunkChoice) -> ChatChunk:
    return {
        "id": head["id"],
        "object": "chat.completion.chunk",
        "created": head["created"],
        "model": head["model"],
        "choices": [choice],
    }


def _text_chunk(head: HeadBody, choice: TextChoice) -> TextChunk:
    return {
        "id": head["id"],
        "object": "text_completion",
        "created": head["created"],
        "model": head["model"],
        "choices": [choice],
    }


def event(body: Chunk | ErrorBody) -> bytes:
    """A chunk as a server-sent event."""
    return f"data: {json.dumps(body)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def headers(response: Response, share: float) -> dict[str, str]:
    """What a proxy or a log may want to know of an answer, without reading it."""
    told = {
        "tier": response.tier,
        "reason": response.reason,
        "ms": f"{response.latency.model_ms:.0f}",
        "escalation-rate": f"{share:.3f}",
    }
    plain = {key: text.encode("ascii", "replace").decode() for key, text in told.items()}
    return {f"x-edge-router-{key}": text for key, text in plain.items()}


def _message(response: Response) -> MessageBody:
    if not response.tool_calls:
        return {"role": "assistant", "content": response.text, "refusal": None}
    return {
        "role": "assistant",
        "content": response.text or None,
        "refusal": None,
        "tool_calls": _calls(response),
    }


def _calls(response: Response) -> list[ToolCallBody]:
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in response.tool_calls
    ]


def _chance(chance: TokenChance) -> TokenBody:
    return {
        "token": _text(chance.piece),
        "logprob": chance.logprob,
        "bytes": list(chance.piece),
        "top_logprobs": [
            {"token": _text(piece), "logprob": logprob, "bytes": list(piece)}
            for piece, logprob in chance.likely
        ],
    }


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _costs(response: Response, share: float) -> CostsBody:
    prompt, written = response.prompt_tokens, response.completion_tokens
    latency = {k: round(v, 3) for k, v in asdict(response.latency).items() if k != "env_ms"}
    return {
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": response.cached_tokens},
        },
        "edge_router": {
            "tier": response.tier,
            "tier_index": response.tier_index,
            "escalated": response.escalated,
            "reason": response.reason,
            "escalation_rate": share,
            "latency": latency,
        },
    }
