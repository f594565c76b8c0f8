"""Compare a tier with F16 on the same text, token by token.

Two kinds of text: a page that comes with the package (prose, numbers, code),
and the ends of three games of the task in the ladder's prompt. F16 reads them
once and its log-probabilities go to a scratch file; every tier reads them and is
compared: KL divergence of its next-token distribution from F16's, how often both
have the same likeliest token, and perplexity.

Reading is what takes the time (nine tenths at 600 million parameters and a vocabulary of 152k), so
little is read that is not compared: of a game, its end behind the chat's first token.

A tier is refused when its KL is more than half of what guessing would have: the
KL of the uniform distribution from F16's. That yardstick needs no tuning for
sharp or flat models. For logits with small errors both KLs are half a variance,
of the error and of the logits, so "half" means that the error has half of the
signal's power.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_router.agent.template import ChatTemplate
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.tasks.protocol import PromptStyle
from edge_router.tasks.registry import find_task

TEXT_FILE: Final = Path(__file__).with_name("verify_text.txt")
PROSE, GAMES = "text", "games"
MAX_GAMES: Final = 3
# Tokens of one text that are read, its first and its last; and positions that are compared.
MAX_READ: Final = {PROSE: 193, GAMES: 192}
MAX_SCORED: Final = {PROSE: 192, GAMES: 96}
ABSURD: Final = 0.5  # share of guessing's KL
_BATCH: Final = 64  # rows of logits at a time: 39 MB at a vocabulary of 152k

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Passage:
    """Tokens to read; from position `first` on, the prediction of the next token is compared."""

    kind: str
    tokens: tuple[int, ...]
    first: int

    @property
    def scored(self) -> int:
        return len(self.tokens) - 1 - self.first


@dataclass(frozen=True)
class Fidelity:
    """A tier against F16 over passages of one kind; KL in nats a token."""

    kl: float
    same_top: float  # share of positions with the same likeliest token
    perplexity: float
    f16_perplexity: float
    guessing_kl: float  # KL of the uniform distribution from F16's
    tokens: int


def passages(model: LlamaModel, style: PromptStyle) -> list[Passage]:
    """The text and the games in the model's tokens, cut to its context."""
    text = _with_bos(model, TEXT_FILE.read_text(encoding="utf-8"))
    found = [_passage(PROSE, text[: MAX_READ[PROSE]], model.n_ctx_train)]
    template = ChatTemplate(
        model.chat_template, bos=model.token_text(model.bos_id), eos=model.token_text(model.eos_id)
    )
    for chat in islice(find_task().verification(style), MAX_GAMES):
        game = _with_bos(model, template.render(chat, lead=False))
        found.append(_passage(GAMES, game, model.n_ctx_train))
    return found


def _passage(kind: str, tokens: Sequence[int], room: int) -> Passage:
    """The end of a text, behind its first token: models lean on the one that begins a text."""
    left_out = max(0, len(tokens) - min(room, MAX_READ[kind]))
    read = (*tokens[:1], *tokens[1 + left_out :])
    return Passage(kind, read, max(0, len(read) - 1 - MAX_SCORED[kind]))


def _with_bos(model: LlamaModel, text: str) -> list[int]:
    tokens = model.tokenize(text)
    if model.adds_bos and model.bos_id >= 0 and tokens[:1] != [model.bos_id]:
        return [model.bos_id, *tokens]
    return tokens


def most_tokens() -> int:
    """Tokens that are read at most."""
    return MAX_READ[PROSE] + MAX_GAMES * MAX_READ[GAMES]


def scratch_bytes(n_vocab: int) -> int:
    """What F16's log-probabilities need on disk at most."""
    rows = MAX_SCORED[PROSE] + MAX_GAMES * MAX_SCORED[GAMES]
    return rows * n_vocab * 4


class Reference:
    """F16's log-probabilities over passages, shape (scored positions, n_vocab), in a scratch file.

    What no tier changes is computed once, (scored positions,): entropy, likeliest token, loss.
    """

    def __init__(
        self,
        model_path: Path,
        style: PromptStyle,
        scratch: Path,
        *,
        threads: int | None = None,
        advance: Callable[[int], None] = lambda tokens: None,
    ) -> None:
        with _loaded(model_path) as model:
            self.passages = passages(model, style)
            count = sum(p.scored for p in self.passages)
            shape = (count, model.n_vocab)
            self.log_p = np.memmap(scratch, dtype=np.float32, mode="w+", shape=shape)
            self.entropy = np.empty(count, np.float32)
            self.top = np.empty(count, np.intp)
            self.losses = np.empty(count, np.float32)
            at = 0
            for _, logits, following in _read(model, self.passages, threads, advance):
                part = slice(at, at + len(logits))
                log_p = log_probabilities(logits)
                self.log_p[part] = log_p
                self.entropy[part] = -np.einsum("ij,ij->i", np.exp(log_p), log_p)
                self.top[part] = log_p.argmax(-1)
                self.losses[part] = -log_p[np.arange(len(following)), following]
                at = part.stop

    @property
    def tokens(self) -> int:
        """Tokens that a tier has to read."""
        return sum(len(p.tokens) for p in self.passages)

    def compare(
        self,
        model_path: Path,
        *,
        threads: int | None = None,
        advance: Callable[[int], None] = lambda tokens: None,
    ) -> dict[str, Fidelity]:
        """Fidelity of a tier over each kind of passage."""
        sums = {kind: _Sums() for kind in (PROSE, GAMES)}
        with _loaded(model_path) as model:
            at = 0
            for kind, logits, following in _read(model, self.passages, threads, advance):
                sums[kind].add(self, slice(at, at + len(logits)), logits, following)
                at += len(logits)
        return {kind: total.fidelity() for kind, total in sums.items()}


class _loaded:  # noqa: N801 - used as `with _loaded(path) as model`
    def __init__(self, path: Path) -> None:
        self.model = LlamaModel.load(path)

    def __enter__(self) -> LlamaModel:
        return self.model

    def __exit__(self, *_: object) -> None:
        self.model.close()


def _read(
    model: LlamaModel,
    read: Sequence[Passage],
    threads: int | None,
    advance: Callable[[int], None],
) -> Iterator[tuple[str, Logits, list[int]]]:
    """(kind, logits, the tokens that followed) of the scored positions, a batch at a time.

    The logits are a view that the next batch overwrites.
    """
    longest = max(len(p.tokens) for p in read)
    context = LlamaContext(model, n_ctx=longest, n_batch=_BATCH, n_threads=threads, max_rows=_BATCH)
    try:
        for passage in read:
            read_tokens = passage.tokens[:-1]  # nothing is known to follow the last
            for at in range(0, len(read_tokens), _BATCH):
                batch = read_tokens[at : at + _BATCH]
                if at + len(batch) <= passage.first:
                    context.decode(batch, at)
                    advance(len(batch))
                    continue
                rows = context.decode_rows(batch, at)
                skipped = max(0, min(len(rows), passage.first - at))
                following = list(passage.tokens[at + skipped + 1 : at + len(rows) + 1])
                advance(len(rows))
                yield passage.kind, rows[skipped:], following
    finally:
        context.close()


def log_probabilities(logits: Logits) -> Logits:
    """Log-softmax of (rows, n_vocab) in single precision: errors of 1e-6 nats, half the time."""
    shifted: Logits = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


class _Sums:
    """Adds up what `Fidelity` is the mean of."""

    def __init__(self) -> None:
        self.kl = self.same = self.loss = self.f16_loss = self.guessing = 0.0
        self.n = 0

    def add(self, f16: Reference, part: slice, logits: Logits, following: Sequence[int]) -> None:
        """Count the positions `part` of the reference; `logits` are the tier's there."""
        log_p, log_q = f16.log_p[part], log_probabilities(logits)
        kl = np.einsum("ij,ij->i", np.exp(log_p), log_p - log_q)
        self.kl += float(kl.sum(dtype=np.float64))
        self.guessing += float((math.log(logits.shape[1]) - f16.entropy[part]).sum())
        self.same += float((f16.top[part] == logits.argmax(axis=-1)).sum())
        self.loss -= float(log_q[np.arange(len(following)), following].sum())
        self.f16_loss += float(f16.losses[part].sum())
        self.n += len(following)

    def fidelity(self) -> Fidelity:
        n = max(1, self.n)
        return Fidelity(
            kl=self.kl / n,
            same_top=self.same / n,
            perplexity=_exp(self.loss / n),
            f16_perplexity=_exp(self.f16_loss / n),
            guessing_kl=self.guessing / n,
            tokens=self.n,
        )


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0)) if value == value else math.nan


def is_absurd(found: dict[str, Fidelity]) -> bool:
    """Whether a tier says little more of F16 than a guess would, or is not a number."""
    n = sum(f.tokens for f in found.values())
    kl = sum(f.kl * f.tokens for f in found.values()) / n
    guessing = sum(f.guessing_kl * f.tokens for f in found.values()) / n
    return not kl <= ABSURD * guessing
