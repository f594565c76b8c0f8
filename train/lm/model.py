"""The household LM: a small Qwen3-shaped transformer in PyTorch.

LmShape and names follow Hugging Face's Qwen3 (RMSNorm, q/k norm, rotary
positions, SwiGLU, tied embeddings), so that `export.py` can hand the weights
to llama.cpp's Qwen3 code and to transformers for comparison.

Where it departs from the textbook: the embedding of an entity is composed,
token = kind + number + a correction of its own, so " cabinet 12" shares what
" cabinet" and " drawer 12" have learnt. `HouseholdLM.embedding` materialises
the plain matrix; the exported model knows nothing of it. Without the
composition, 900 entity embeddings have to be learnt one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from train import saved
from train.lm.vocabulary import vocabulary


@dataclass(frozen=True)
class LmShape:
    """Widths are multiples of 256: K-quants need rows that are.

    Three layers, because six play as well at 1.6 bits a weight (99 % of generated games won) as
    at eight (98 %), and a ladder whose tiers are equally good has nothing to choose.
    """

    width: int = 256
    layers: int = 3
    heads: int = 8
    feedforward: int = 768
    rope_base: float = 10_000.0
    eps: float = 1e-6
    positions: int = 2048

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


def rotary(positions: Tensor, shape: LmShape) -> tuple[Tensor, Tensor]:
    """cos and sin, each (..., head_dim), for integer `positions` (...,)."""
    exponent = torch.arange(0, shape.head_dim, 2, device=positions.device) / shape.head_dim
    angles = positions[..., None].float() * shape.rope_base**-exponent
    angles = torch.cat((angles, angles), -1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to x (..., head_dim); halves, not pairs, as Qwen does."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Attention(nn.Module):
    def __init__(self, shape: LmShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.q_norm = nn.RMSNorm(shape.head_dim, eps=shape.eps)
        self.k_norm = nn.RMSNorm(shape.head_dim, eps=shape.eps)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v of shape (batch, heads, tokens, head_dim), positions applied."""
        batch, tokens, width = x.shape
        split = (batch, tokens, self.heads, width // self.heads)
        q = rotate(self.q_norm(self.q_proj(x).view(split)).transpose(1, 2), cos, sin)
        k = rotate(self.k_norm(self.k_proj(x).view(split)).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(split).transpose(1, 2)
        return q.to(v.dtype), k.to(v.dtype), v

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """What the heads read, for x (batch, tokens, width), of the same shape."""
        q, k, v = self.project(x, cos, sin)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.merge(y)

    def merge(self, y: Tensor) -> Tensor:
        """Heads (batch, heads, tokens, head_dim) joined to (batch, tokens, width)."""
        out: Tensor = self.o_proj(y.transpose(1, 2).flatten(2))
        return out


class TransformerBlock(nn.Module):
    def __init__(self, shape: LmShape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.width, eps=shape.eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, eps=shape.eps)
        self.gate_proj = nn.Linear(shape.width, shape.feedforward, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.feedforward, bias=False)
        self.down_proj = nn.Linear(shape.feedforward, shape.width, bias=False)

    def mlp(self, x: Tensor) -> Tensor:
        """The feed-forward half, (batch, tokens, width) to the same."""
        x = self.post_attention_layernorm(x)
        out: Tensor = self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (batch, tokens, width) after the block, of the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(x)


class ComposedEmbedding(nn.Module):
    """token = kind + number + own correction (which starts at zero)."""

    kind: Tensor
    number: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        v = vocabulary()
        self.register_buffer("kind", torch.tensor([k for k, _ in v.parts]), persistent=False)
        self.register_buffer("number", torch.tensor([n for _, n in v.parts]), persistent=False)
        self.kinds = nn.Parameter(torch.randn(v.n_kinds, width) * 0.02)
        self.numbers = nn.Parameter(torch.randn(v.n_numbers, width) * 0.02)
        self.own = nn.Parameter(torch.zeros(len(v.tokens), width))

    def forward(self) -> Tensor:
        """The plain matrix (vocabulary, width)."""
        entity = (self.number > 0).to(self.kinds.dtype)[:, None]
        # Not kinds[kind]: the gradient of indexing is summed by threads in any order, that of
        # `embedding` in one order on any number of threads.
        kinds = nn.functional.embedding(self.kind, self.kinds)
        numbers = nn.functional.embedding(self.number, self.numbers)
        return kinds + entity * numbers + self.own


class HouseholdLM(nn.Module):
    def __init__(self, shape: LmShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = ComposedEmbedding(shape.width)
        self.layers = nn.ModuleList(TransformerBlock(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.eps)
        for name, weight in self.named_parameters():
            if name.endswith("proj.weight"):
                nn.init.normal_(weight, std=shape.width**-0.5)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(weight)

    def forward(self, ids: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Logits (batch, tokens, vocabulary) for ids (batch, tokens)."""
        table = self.embed_tokens()
        x = nn.functional.embedding(ids, table)
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits: Tensor = self.norm(x) @ table.t()
        return logits

    def blocks(self) -> Iterator[TransformerBlock]:
        for layer in self.layers:
            assert isinstance(layer, TransformerBlock)
            yield layer

    def loss(self, ids: Tensor, weights: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Weighted mean cross-entropy of predicting ids[:, 1:]; weights is (batch, tokens)."""
        logits = self(ids[:, :-1], cos, sin).float()
        nll = nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        w = weights[:, 1:].flatten()
        return (nll * w).sum() / w.sum()


@dataclass(frozen=True)
class LmConfig:
    """Everything that decides the result of a training, kept in its checkpoint."""

    steps: int = 1400
    tokens: int = 8192  # a batch
    seed: int = 1
    muon_learning_rate: float = 0.02
    adam_learning_rate: float = 0.003
    warmup: int = 100
    decay_share: float = 0.35
    weight_decay: float = 0.01
    shape: LmShape = field(default_factory=LmShape)


def load_model(run: Path) -> HouseholdLM:
    """The model of a run's last checkpoint. Raises `UserError` when there is none."""
    with saved.loaded(run / "checkpoint.pt") as state:
        model = HouseholdLM(LmShape(**state["recipe"]["shape"]))
        model.load_state_dict(state["model"])
    return model
