"""A conversation's response: its text, who wrote it and why, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_router.agent.events import Latency
from edge_router.agent.history import WatchedSampler
from edge_router.agent.step_writer import Written
from edge_router.agent.tool_calls import ToolCall
from edge_router.engine.generate import StopReason
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.tier import Generation


@dataclass(frozen=True)
class TokenChance:
    """How likely its writer took a token for, and which others it took for likely."""

    piece: bytes  # the token's text
    logprob: float  # ln p, at temperature 1
    likely: tuple[tuple[bytes, float], ...] = ()  # the likeliest tokens with their ln p


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
    completion_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, found in the cache
    confidence: tuple[float, float] = (1.0, 0.0)  # least p, mean -ln p, of what was written
    tool_calls: tuple[ToolCall, ...] = ()  # functions that the model asks for
    chances: tuple[TokenChance, ...] = ()  # one a token, where they were asked for

    @property
    def escalated(self) -> bool:
        """Whether a higher tier than the low one wrote it."""
        return self.tier_index > 0

    @classmethod
    def of(
        cls, tiers: Sequence[str], written: Written, prompt_tokens: int, sampler: WatchedSampler
    ) -> Response:
        """What a step writer wrote, as a response."""
        tier = written.decision.tier
        return cls(
            text=written.generation.text.strip(),
            tier=tiers[tier],
            tier_index=tier,
            reason=written.decision.reason,
            latency=written.latency(),
            prompt_tokens=prompt_tokens,
            stop_reason=written.generation.stop_reason,
            completion_tokens=len(written.generation.tokens),
            cached_tokens=written.ingest.kept_tokens,
            confidence=sampler.confidence(),
        )

    def message(self) -> dict[str, Any]:
        """The response as the conversation's next message."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            message["tool_calls"] = [call.message() for call in self.tool_calls]
        return message


def chances(
    vocab: LlamaModel, generation: Generation, sampler: WatchedSampler
) -> tuple[TokenChance, ...]:
    """How likely each token was that was written; ends where a stop string was cut off."""
    told: list[TokenChance] = []
    for index, (written, sampled) in enumerate(
        zip(generation.tokens, sampler.tokens, strict=False)
    ):
        if written != sampled:
            break
        likely = sampler.likeliest[index] if sampler.likely else []
        told.append(
            TokenChance(
                vocab.token_bytes(written),
                -sampler.stats[index].nll,
                tuple((vocab.token_bytes(token), logprob) for token, logprob in likely),
            )
        )
    return tuple(told)
