"""Let a transformers model play in the simulator, many games at once.

All games advance together: the new part of every prompt is read in one batch, then all write
greedily, token by token, until each has ended its step. The KV cache grows by the longest of each;
what a row lacks is masked. Where a prompt is no longer what was read (a template that shows
answers otherwise later, a step that was corrected), the rest of that row is masked and read anew.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from edge_router.tasks.household.generator import STEP_LIMIT, draw_world
from edge_router.tasks.household.world import World
from train.lm.tune.dialogues import STYLE, Dialogue, TaughtTurn, say
from train.lm.tune.model import has_bf16, head, states
from train.lm.tune.sequences import ChatTokens
from train.lm.watched import WatchedGame

MAX_TOKENS: Final = 4096  # a game whose prompt is longer is lost


class ChatGame(WatchedGame):
    """One game, its prompt, and the episode so far."""

    def __init__(self, world: World, tokens: ChatTokens, correct: float, seed: int) -> None:
        super().__init__(world, say, correct, seed)
        self.tokens = tokens
        self.turns: list[TaughtTurn] = []
        self.prompt = tokens.prompt(self.dialogue, STYLE)

    @property
    def dialogue(self) -> Dialogue:
        return Dialogue(self.opening, tuple(self.turns))

    def act(self, written: list[int]) -> None:
        """Take a whole step."""
        judged = self.judge(self.tokens.text(written).strip())
        reply = self.play(judged.text)
        self.turns.append(TaughtTurn(judged.text, judged.learnt, reply.observation))
        if judged.replaced:
            written = self.tokens.tokenize(judged.text)
        self.prompt.add(written, judged.text, STYLE.reply(reply.observation))
        self.over = self.over or len(self.prompt.tokens) > MAX_TOKENS


class CachedRows:
    """The model with a KV cache in which every row may lack some slots."""

    def __init__(self, model: Any, rows: int) -> None:
        from transformers import DynamicCache

        self.model, self.cache = model, DynamicCache()
        self.device = next(model.parameters()).device
        self.valid = torch.zeros(rows, 0, dtype=torch.long, device=self.device)
        self.read: list[list[int]] = [[] for _ in range(rows)]  # tokens of each row
        self.slots: list[list[int]] = [[] for _ in range(rows)]  # and where they lie

    def feed(self, new: Sequence[Sequence[int]]) -> Tensor:
        """Read each row's new tokens (possibly none); logits (rows, vocabulary) after the last."""
        longest, at = max(map(len, new)), self.valid.shape[1]
        ids = torch.zeros(len(new), longest, dtype=torch.long)
        kept, positions = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, tokens in enumerate(new):
            n = len(tokens)
            ids[row, :n], kept[row, :n] = torch.tensor(tokens, dtype=torch.long), 1
            positions[row, :n] = torch.arange(len(self.read[row]), len(self.read[row]) + n)
            self.read[row] += tokens
            self.slots[row] += range(at, at + n)
        self.valid = torch.cat([self.valid, kept.to(self.device)], dim=1)
        hidden = states(
            self.model,
            ids.to(self.device),
            attention_mask=self.valid,
            position_ids=positions.to(self.device),
            past_key_values=self.cache,
            use_cache=True,
        )
        last = torch.tensor([max(0, len(tokens) - 1) for tokens in new], device=self.device)
        logits: Tensor = head(self.model)(hidden[torch.arange(len(new)), last])
        return logits

    def forget(self, row: int, length: int) -> None:
        """Keep only the first `length` tokens of a row."""
        self.valid[row, self.slots[row][length:]] = 0
        del self.read[row][length:], self.slots[row][length:]

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these."""
        chosen = torch.tensor(rows, device=self.device)
        self.cache.batch_select_indices(chosen)
        self.valid = self.valid[chosen]
        self.read = [self.read[row] for row in rows]
        self.slots = [self.slots[row] for row in rows]


@torch.inference_mode()
def play(
    model: Any,
    tokens: ChatTokens,
    worlds: Sequence[World],
    correct: float = 0.0,
    told: Callable[[int], None] = lambda over: None,
    max_steps: int = STEP_LIMIT,
) -> list[ChatGame]:
    """Play every world greedily to its end, all in one batch; `told` hears how many are over."""
    training = model.training
    model.eval()
    games = [ChatGame(world, tokens, correct, seed) for seed, world in enumerate(worlds)]
    live, rows = games, CachedRows(model, len(games))
    with _half(rows.device):
        while live:
            for game, written in zip(live, _write(rows, live, tokens.end), strict=True):
                game.act(written)
                game.over = game.over or game.steps >= max_steps
            playing = [i for i, game in enumerate(live) if not game.over]
            live = [live[i] for i in playing]
            if live and len(playing) < len(rows.read):
                rows.keep(playing)
            told(len(games) - len(live))
    model.train(training)
    return games


def _half(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    if has_bf16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def _write(rows: CachedRows, games: Sequence[ChatGame], end: int) -> list[list[int]]:
    """One step of every game, as tokens."""
    for row, game in enumerate(games):
        wanted, read = game.prompt.tokens, rows.read[row]
        shared = next((i for i, (a, b) in enumerate(zip(read, wanted, strict=False)) if a != b),
                      min(len(read), len(wanted) - 1))  # fmt: skip
        if shared < len(read):
            rows.forget(row, shared)
    logits = rows.feed(
        [game.prompt.tokens[len(rows.read[row]) :] for row, game in enumerate(games)]
    )
    written: list[list[int]] = [[] for _ in games]
    writing = set(range(len(games)))
    while True:
        chosen = logits.argmax(-1).tolist()
        for row in list(writing):
            if chosen[row] == end:
                writing.discard(row)
                continue
            written[row].append(chosen[row])
            if len(written[row]) >= STYLE.max_tokens:
                writing.discard(row)
        if not writing:
            return written
        following = [written[row][-1:] if row in writing else [] for row in range(len(games))]
        logits = rows.feed(following)


def held_out(count: int, seed: str = "held out") -> list[World]:
    """Fresh worlds that no training episode is drawn from."""
    rng = random.Random(seed)
    return [draw_world(rng) for _ in range(count)]
