"""Let a transformers model play in the simulator, greedily or by chance, many games at once.

All games advance together: the new part of every prompt is read in one batch, then all write,
token by token, until each has ended its step. The KV cache grows by the longest of each;
what a row lacks is masked. Where a prompt is no longer what was read (a template that shows
answers otherwise later, a step that was corrected), the rest of that row is masked and read anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor

from edge_router.tasks.household.generator import STEP_LIMIT, draw_world
from edge_router.tasks.household.world import World
from train.lm.tune.dialogues import STYLE, Dialogue, OwnStep, TaughtTurn, say
from train.lm.tune.model import half, head, states
from train.lm.tune.sequences import ChatTokens
from train.lm.watched import WatchedGame

MAX_TOKENS: Final = 4096  # a game whose prompt is longer is lost
AT_ONCE: Final = 64  # games that are played together, where there are many


class ChatGame(WatchedGame):
    """One game, its prompt, and the episode so far."""

    def __init__(self, world: World, tokens: ChatTokens, correct: float, seed: int | str) -> None:
        super().__init__(world, say, correct, seed)
        self.tokens = tokens
        self.turns: list[TaughtTurn] = []
        self.written: list[OwnStep] = []
        self.prompt = tokens.prompt(self.dialogue, STYLE)

    @property
    def dialogue(self) -> Dialogue:
        return Dialogue(self.opening, tuple(self.turns))

    @property
    def own(self) -> Dialogue:
        """The episode with all that the model wrote to be learnt, for better or for worse."""
        steps = zip(self.turns, self.written, strict=True)
        turns = (replace(turn, learnt=True, written=written) for turn, written in steps)
        return Dialogue(self.opening, tuple(turns))

    def act(self, written: OwnStep) -> None:
        """Take a whole step."""
        judged = self.judge(self.tokens.text(written.tokens).strip())
        reply = self.play(judged.text)
        self.turns.append(TaughtTurn(judged.text, judged.learnt, reply.observation))
        if judged.replaced:
            written = OwnStep(self.tokens.tokenize(judged.text), ended=True)
        self.written.append(written)
        self.prompt.add(written.tokens, judged.text, STYLE.reply(reply.observation))
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
    temperature: float = 0.0,
    seeds: Sequence[int | str] | None = None,
) -> list[ChatGame]:
    """Play every world to its end, all in one batch; `told` hears how many are over.

    Greedily at temperature 0. What a game draws depends on its seed and on nothing else.
    """
    training = model.training
    model.eval()
    given = range(len(worlds)) if seeds is None else seeds
    games = [ChatGame(w, tokens, correct, seed) for w, seed in zip(worlds, given, strict=True)]
    live, rows = games, CachedRows(model, len(games))
    with half(rows.device):
        while live:
            steps = _write(rows, live, tokens.end, temperature)
            for game, written in zip(live, steps, strict=True):
                game.act(written)
                game.over = game.over or game.steps >= max_steps
            playing = [i for i, game in enumerate(live) if not game.over]
            live = [live[i] for i in playing]
            if live and len(playing) < len(rows.read):
                rows.keep(playing)
            told(len(games) - len(live))
    model.train(training)
    return games


def _write(
    rows: CachedRows, games: Sequence[ChatGame], end: int, temperature: float
) -> list[OwnStep]:
    """One step of every game."""
    for row, game in enumerate(games):
        wanted, read = game.prompt.tokens, rows.read[row]
        shared = next((i for i, (a, b) in enumerate(zip(read, wanted, strict=False)) if a != b),
                      min(len(read), len(wanted) - 1))  # fmt: skip
        if shared < len(read):
            rows.forget(row, shared)
    logits = rows.feed(
        [game.prompt.tokens[len(rows.read[row]) :] for row, game in enumerate(games)]
    )
    written = [OwnStep() for _ in games]
    writing = set(range(len(games)))
    while True:
        chosen = _chosen(logits, games, writing, temperature)
        for row in list(writing):
            step, token = written[row], chosen[row]
            step.ended = token == end
            if not step.ended:
                step.tokens.append(token)
            if step.ended or len(step.tokens) >= STYLE.max_tokens:
                writing.discard(row)
        if not writing:
            return written
        logits = rows.feed(
            [step.tokens[-1:] if row in writing else [] for row, step in enumerate(written)]
        )


def _chosen(
    logits: Tensor, games: Sequence[ChatGame], writing: set[int], temperature: float
) -> list[int]:
    """The next token of every row, where `writing` a draw of the game's own."""
    if not temperature:
        greedy: list[int] = logits.argmax(-1).tolist()
        return greedy
    # 23 bits and no more: in float32 the product below is less than the whole sum then, and the
    # search never ends on a token of probability 0.
    draws = [g.rng.getrandbits(23) if row in writing else 0 for row, g in enumerate(games)]
    share = torch.tensor(draws, dtype=torch.float32, device=logits.device)[:, None] / 2**23
    below = (logits.float() / temperature).softmax(-1).cumsum(-1)
    found: list[int] = torch.searchsorted(below, share * below[:, -1:], right=True)[:, 0].tolist()
    return found


def held_out(count: int, seed: str = "held out") -> list[World]:
    """Fresh worlds that no training episode is drawn from."""
    rng = random.Random(seed)
    return [draw_world(rng) for _ in range(count)]
