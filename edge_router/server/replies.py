"""Answers in OpenAI's form, whole or in pieces.

What OpenAI's form has no place for stands below `edge_router`: which tier wrote, why, and where
the time went.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from edge_router.agent.response import Response, TokenChance
from edge_router.agent.tool_calls import may_begin
from edge_router.server.answering import AnswerPlan

Body = dict[str, Any]


class ReplyForm:
    """How one request is answered."""

    def __init__(self, plan: AnswerPlan, model: str) -> None:
        self.plan = plan
        self._chat = bool(plan.messages)
        kind = "chat.completion" if self._chat else "text_completion"
        prefix = "chatcmpl" if self._chat else "cmpl"
        self._head: Body = {
            "id": f"{prefix}-{uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, response: Response, share: float) -> Body:
        """The answer at once; `share` is the escalation rate so far."""
        choice: Body = {"index": 0, "finish_reason": self._finish(response)}
        if self._chat:
            choice["message"] = _message(response)
            choice["logprobs"] = self._logprobs(response)
        else:
            choice |= {"text": response.text, "logprobs": self._logprobs(response)}
        return {**self._head, "choices": [choice], **_costs(response, share)}

    async def pieces(self, texts: AsyncIterator[str]) -> AsyncIterator[Body]:
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

    def endings(self, response: Response, share: float, *, usage: bool) -> list[Body]:
        """The last chunks: calls, the end, and what it took."""
        chunks = []
        rest = response.text[self._shown :] if self.plan.tools else ""
        if rest.strip():
            chunks.append(self._chunk({"content": rest}))
        if response.tool_calls:
            calls = [{"index": i, **call} for i, call in enumerate(_calls(response))]
            chunks.append(self._chunk({"tool_calls": calls}))
        last = self._chunk({})
        last["choices"][0] |= {
            "finish_reason": self._finish(response),
            "logprobs": self._logprobs(response),
        }
        costs = _costs(response, share)
        chunks.append({**last, "edge_router": costs["edge_router"]})
        if usage:
            chunks.append({**last, "choices": [], "usage": costs["usage"]})
        return chunks

    def _chunk(self, delta: Body) -> Body:
        choice: Body = {"index": 0, "finish_reason": None}
        if not self._chat:
            choice["text"] = delta.get("content", "")
            return {**self._head, "choices": [choice]}
        choice["delta"] = delta
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _finish(self, response: Response) -> str:
        if response.tool_calls:
            return "tool_calls"
        # A grammar is cut short by the limit alone.
        limit = self.plan.options["max_tokens"]
        cut = response.stop_reason == "max_tokens" or (
            response.stop_reason == "constraint" and response.completion_tokens >= limit
        )
        return "length" if cut else "stop"

    def _logprobs(self, response: Response) -> Body | None:
        if self.plan.options.get("likely") is None:
            return None
        if self._chat:
            return {"content": [_chance(chance) for chance in response.chances]}
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


def event(body: Body) -> bytes:
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


def _message(response: Response) -> Body:
    message: Body = {"role": "assistant", "content": response.text, "refusal": None}
    if response.tool_calls:
        message |= {"content": response.text or None, "tool_calls": _calls(response)}
    return message


def _calls(response: Response) -> list[Body]:
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in response.tool_calls
    ]


def _chance(chance: TokenChance) -> Body:
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


def _costs(response: Response, share: float) -> Body:
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
