"""Let the model play in the simulator, many games at once.

    python -m train.lm.rollout --run runs/lm --games 200

This is how the model is judged while it trains: by games won, refused
commands and whether each step is the one the expert would take, never by
token accuracy. All games advance token by token in one batch with a KV cache;
a game reads its next prompt token if it has one and writes greedily otherwise.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_router.tasks.alfworld.household_prompt import (
    compact,
    compact_opening,
    step_text,
)
from edge_router.tasks.household.generator import draw_world
from edge_router.tasks.household.world import World
from train.lm.episodes import WeightedTranscript
from train.lm.model import HouseholdLM, load_model, rotary
from train.lm.vocabulary import AGENT, END, USER, vocabulary
from train.lm.watched import WatchedGame, summary

MAX_CONTEXT = 1024
MAX_STEP_TOKENS = 96


class CachedModel:
    """The model with a KV cache of `rows` independent sequences, one token a call."""

    def __init__(self, model: HouseholdLM, rows: int) -> None:
        self.model, shape = model, model.shape
        size = (shape.layers, rows, shape.heads, MAX_CONTEXT, shape.head_dim)
        self.k, self.v = torch.zeros(size), torch.zeros(size)
        self.table = model.embed_tokens()
        self.length = torch.zeros(rows, dtype=torch.long)

    def step(self, ids: Tensor) -> Tensor:
        """Feed a token to every sequence; ids (rows,) -> logits (rows, vocabulary)."""
        at, rows = self.length, torch.arange(len(self.length))
        cos, sin = (t[:, None, None, :] for t in rotary(at, self.model.shape))
        span = int(at.max()) + 1
        mask = (torch.arange(span)[None] <= at[:, None])[:, None, None, :]
        x = nn.functional.embedding(ids, self.table)[:, None, :]
        for i, layer in enumerate(self.model.blocks()):
            attn = layer.self_attn
            q, k, v = attn.project(layer.input_layernorm(x), cos, sin)
            self.k[i][rows, :, at] = k[:, :, 0]
            self.v[i][rows, :, at] = v[:, :, 0]
            keys, values = self.k[i, :, :, :span], self.v[i, :, :, :span]
            y = nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
            x = x + attn.merge(y)
            x = x + layer.mlp(x)
        self.length = at + 1
        out: Tensor = self.model.norm(x[:, 0]) @ self.table.t()
        return out

    def keep(self, rows: Tensor) -> None:
        """Drop all sequences but those numbered `rows` (kept,)."""
        self.k, self.v = self.k[:, rows], self.v[:, rows]
        self.length = self.length[rows]


class PlayedGame(WatchedGame):
    """One game in the batch."""

    def __init__(self, world: World, correct: float = 0.0, seed: int = 0) -> None:
        super().__init__(world, step_text, correct, seed)
        self.transcript = WeightedTranscript()
        self.pending: list[int] = []  # prompt tokens not yet read
        self.written: list[int] = []  # tokens of the step being written
        self.hear(compact_opening(self.opening))

    def hear(self, content: str) -> None:
        self.transcript.user(content)
        self.pending += vocabulary().encode(f"{USER} {content}{AGENT}")

    def write(self, token: int, end: int) -> int:
        """Take one written token; at the end of the step, act. Returns tokens to unread."""
        if token != end:
            self.written.append(token)
            if len(self.written) < MAX_STEP_TOKENS:
                return 0
        text = vocabulary().decode(self.written).strip()
        unread = self.act(text, len(self.written) - (token != end))
        if not unread:
            self.pending[:0] = [token, end] if token != end else [end]
        self.written = []
        return unread

    def act(self, text: str, fed: int) -> int:
        judged = self.judge(text)
        if judged.replaced:
            self.pending += vocabulary().encode(f" {judged.text}{END}")
        self.transcript.add(AGENT, 0.0)
        self.transcript.add(f" {judged.text}{END}", float(judged.learnt))
        reply = self.play(judged.text)
        self.over = self.over or len(self.transcript.ids) + 2 * MAX_STEP_TOKENS > MAX_CONTEXT
        if not self.over:
            self.hear(compact(reply.observation))
        return fed if judged.replaced else 0


@torch.inference_mode()
def play(model: HouseholdLM, worlds: list[World], correct: float = 0.0) -> list[PlayedGame]:
    """Play every world greedily to its end, all in one batch."""
    model.eval()
    games = [PlayedGame(world, correct, seed) for seed, world in enumerate(worlds)]
    cached, end = CachedModel(model, len(games)), vocabulary().ids[END]
    live, last = games, torch.zeros(len(games), dtype=torch.long)
    while live:
        feed = [g.pending.pop(0) if g.pending else int(t) for g, t in zip(live, last, strict=True)]
        last = cached.step(torch.tensor(feed)).argmax(-1)
        for row, game in enumerate(live):
            if not game.pending and not game.over:
                cached.length[row] -= game.write(int(last[row]), end)
            if game.over:
                game.pending = [end]  # idles at one place until its row is dropped
                cached.length[row] = 0
        playing = [row for row, game in enumerate(live) if not game.over]
        if len(playing) <= 0.8 * len(live):
            rows = torch.tensor(playing, dtype=torch.long)
            cached.keep(rows)
            live, last = [live[row] for row in playing], last[rows]
    model.train()
    return games


def held_out(count: int, seed: str = "held out") -> list[World]:
    rng = random.Random(seed)
    return [draw_world(rng) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Play held-out generated games.")
    parser.add_argument("--run", type=Path, default=Path("runs/lm"))
    parser.add_argument("--games", type=int, default=200)
    parser.add_argument("--show", type=int, default=0, help="print this many lost games")
    args = parser.parse_args()
    games = play(load_model(args.run), held_out(args.games))
    print({k: round(v, 3) for k, v in summary(games).items()})
    for game in [g for g in games if not g.won][: args.show]:
        print(vocabulary().decode(game.transcript.ids).replace("<|", "\n<|"))


if __name__ == "__main__":
    main()
