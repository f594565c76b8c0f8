"""Compare a tier with F16 on the same text, token by token.

Two kinds of text: a page that comes with the package (prose, numbers, code),
and the ends of two games of the task in the ladder's prompt. F16 reads them
once and its log-probabilities go to a scratch file; every tier reads them and is
compared: KL divergence of its next-token distribution from F16's, how often both
have the same likeliest token, and perplexity.

Reading is what takes the time, and it follows the tokens. So by default few are read, less than
quantising takes, and the KL has its standard error beside it: whoever wants a smaller one asks
for more positions. docs/measurements.md has both.

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
POSITIONS: Final = 80  # of the text, and of the games together, that are compared by default
_GAMES: Final = 2
_CONTEXT: Final = 24  # tokens of a passage, behind its first, that are read and not compared
_ABSURD: Final = 0.5  # share of guessing's KL
_BATCH: Final = 64  # rows of logits at a time: 39 MB at a vocabulary of 152k
_AT_ONCE: Final = 8  # rows that numpy works on: 5 MB, which stays in a cache
_STRETCH: Final = 8  # neighbouring positions, whose KLs are alike, that count as one in the error

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
    kl_error: float | None = None  # standard error; None where older versions did not tell it


def passages(model: LlamaModel, style: PromptStyle, positions: int = POSITIONS) -> list[Passage]:
    """The text and the games in the model's tokens, cut to its context."""
    text = _with_bos(model, TEXT_FILE.read_text(encoding="utf-8"))
    found = [_passage(PROSE, text[: _read_at_most(positions)], positions, model.n_ctx_train)]
    template = ChatTemplate(
        model.chat_template, bos=model.token_text(model.bos_id), eos=model.token_text(model.eos_id)
    )
    for chat in islice(find_task().verification(style), _GAMES):
        game = _with_bos(model, template.render(chat, lead=False))
        found.append(_passage(GAMES, game, positions // _GAMES, model.n_ctx_train))
    return found


def _passage(kind: str, tokens: Sequence[int], scored: int, room: int) -> Passage:
    """The end of a text, behind its first token: models lean on the one that begins a text."""
    left_out = max(0, len(tokens) - min(room, _read_at_most(scored)))
    read = (*tokens[:1], *tokens[1 + left_out :])
    return Passage(kind, read, max(0, len(read) - 1 - scored))


def _read_at_most(scored: int) -> int:
    """Tokens of a passage with so many positions that are compared."""
    return 1 + _CONTEXT + scored


def _with_bos(model: LlamaModel, text: str) -> list[int]:
    tokens = model.tokenize(text)
    if model.adds_bos and model.bos_id >= 0 and tokens[:1] != [model.bos_id]:
        return [model.bos_id, *tokens]
    return tokens


def most_tokens(positions: int) -> int:
    """Tokens that are read at most."""
    return _read_at_most(positions) + _GAMES * _read_at_most(positions // _GAMES)


def scratch_bytes(n_vocab: int, positions: int) -> int:
    """What F16's log-probabilities need on disk at most."""
    return 2 * positions * n_vocab * 4


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
        positions: int = POSITIONS,
        threads: int | None = None,
        advance: Callable[[int], None] = lambda tokens: None,
    ) -> None:
        with _loaded(model_path) as model:
            self.passages = passages(model, style, positions)
            count = sum(p.scored for p in self.passages)
            shape = (count, model.n_vocab)
            self.log_p = np.memmap(scratch, dtype=np.float32, mode="w+", shape=shape)
            self.entropy = np.empty(count, np.float32)
            self.top = np.empty(count, np.intp)
            self.losses = np.empty(count, np.float32)
            for part, logits, following in _read(model, self.passages, threads, advance):
                log_p = log_probabilities(logits)
                self.log_p[part] = log_p
                self.entropy[part] = -np.einsum("ij,ij->i", np.exp(log_p), log_p)
                self.top[part] = log_p.argmax(-1)
                self.losses[part] = -log_p[np.arange(len(following)), following]

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
        count, n_vocab = self.log_p.shape
        found = _Positions(*np.empty((4, count)))
        with _loaded(model_path) as model:
            for part, logits, following in _read(model, self.passages, threads, advance):
                log_p, log_q = self.log_p[part], log_probabilities(logits)
                found.kl[part] = np.einsum("ij,ij->i", np.exp(log_p), log_p - log_q)
                found.same[part] = self.top[part] == logits.argmax(axis=-1)
                found.loss[part] = -log_q[np.arange(len(following)), following]
        found.guessing[:] = math.log(n_vocab) - self.entropy
        text = sum(p.scored for p in self.passages if p.kind == PROSE)
        kinds = {PROSE: slice(0, text), GAMES: slice(text, count)}
        return {kind: found.fidelity(at, self.losses[at]) for kind, at in kinds.items()}


@dataclass(frozen=True)
class _Positions:
    """What `Fidelity` is the mean of, each (scored positions,)."""

    kl: NDArray[np.float64]
    same: NDArray[np.float64]
    loss: NDArray[np.float64]
    guessing: NDArray[np.float64]

    def fidelity(self, at: slice, f16_loss: NDArray[np.float32]) -> Fidelity:
        kl = self.kl[at]
        return Fidelity(
            kl=float(kl.mean()),
            same_top=float(self.same[at].mean()),
            perplexity=_exp(float(self.loss[at].mean())),
            f16_perplexity=_exp(float(f16_loss.mean(dtype=np.float64))),
            guessing_kl=float(self.guessing[at].mean()),
            tokens=len(kl),
            kl_error=standard_error(kl),
        )


def standard_error(values: NDArray[np.float64]) -> float | None:
    """Of their mean, (n,) in the order of the text; None for fewer than two.

    Neighbours are alike, so means of short stretches are what counts as independent.
    """
    stretches = min(len(values), max(2, len(values) // _STRETCH))
    if stretches < 2:
        return None
    means = [float(stretch.mean()) for stretch in np.array_split(values, stretches)]
    return float(np.std(means, ddof=1) / math.sqrt(stretches))


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
) -> Iterator[tuple[slice, Logits, list[int]]]:
    """(which of the scored positions, their logits, the tokens that followed), a few at a time.

    The logits are a view that the next batch overwrites.
    """
    longest = max(len(p.tokens) for p in read)
    context = LlamaContext(model, n_ctx=longest, n_batch=_BATCH, n_threads=threads, max_rows=_BATCH)
    count = 0
    try:
        for passage in read:
            read_tokens = passage.tokens[:-1]  # nothing is known to follow the last
            for at in range(0, len(read_tokens), _BATCH):
                batch = read_tokens[at : at + _BATCH]
                end = at + len(batch)
                scored = min(len(batch), end - passage.first)  # logits of the others cost time
                if scored <= 0:
                    context.decode(batch, at)
                else:
                    rows = context.decode_rows(batch, at, scored)
                    following = list(passage.tokens[end - scored + 1 : end + 1])
                    for row in range(0, scored, _AT_ONCE):
                        some = slice(row, row + _AT_ONCE)
                        n = len(following[some])
                        yield slice(count, count + n), rows[some], following[some]
                        count += n
                advance(len(batch))
    finally:
        context.close()


def log_probabilities(logits: Logits) -> Logits:
    """Log-softmax of (rows, n_vocab) in single precision: errors of 1e-6 nats, half the time."""
    shifted: Logits = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0)) if value == value else math.nan


def in_nats(found: Fidelity) -> str:
    """The KL for people, with its standard error."""
    error = "" if found.kl_error is None else f" \N{PLUS-MINUS SIGN} {found.kl_error:.4f}"
    return f"{found.kl:.4f}{error}"


def is_absurd(found: dict[str, Fidelity]) -> bool:
    """Whether a tier says little more of F16 than a guess would, or is not a number."""
    n = sum(f.tokens for f in found.values())
    kl = sum(f.kl * f.tokens for f in found.values()) / n
    guessing = sum(f.guessing_kl * f.tokens for f in found.values()) / n
    return not kl <= _ABSURD * guessing
