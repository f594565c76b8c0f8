"""Sequences packed into rows of one length, and a resumable stream of batches of such rows.

Sequences in a row do not see each other: each token attends to its own sequence alone, and
positions begin anew with each. Chunk i of the stream holds the episodes of seed (run seed, i) and
nothing else, so a resumed run sees exactly what an unbroken one would. Corrected episodes
(`corrections`) take the places of some fresh ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from edge_router.tasks.protocol import PromptStyle
from train.lm.tune.dialogues import Dialogue, draw_dialogue
from train.lm.tune.sequences import ChatTokens, sequences
from train.lm.tune.sequences import Sequence as Tokens

CHUNK: Final = 64  # episodes drawn at a time
IGNORED: Final = -100  # a target that carries no loss

AnySequence = TypeVar("AnySequence", bound=Tokens)


@dataclass(frozen=True)
class Rows:
    """Packed sequences, each tensor of shape (rows, length).

    `targets[r, i]` is the token to predict at i, IGNORED where nothing is learnt; `parts` numbers
    the sequences of a row from 1, 0 is padding.
    """

    ids: Tensor
    targets: Tensor
    parts: Tensor
    positions: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, first: int, last: int) -> Rows:
        """Rows `first` to `last`, which is not one of them."""
        return Rows(*(t[first:last] for t in self._tensors()))

    def taken(self, order: list[int]) -> Rows:
        """These rows, in this order."""
        return Rows(*(t[order] for t in self._tensors()))

    def to(self, device: torch.device) -> Rows:
        return Rows(*(t.to(device, non_blocking=True) for t in self._tensors()))

    def mask(self) -> Tensor:
        """(rows, 1, length, length): whether token i may attend to token j."""
        same = self.parts[:, :, None] == self.parts[:, None, :]
        return torch.tril(same)[:, None]

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.ids, self.targets, self.parts, self.positions


def pack(found: Iterable[Tokens], length: int) -> Rows:
    """Rows of `length` tokens, the longest sequences placed first; longer ones are cut."""
    return filled(placed(found, length), length)


def placed(found: Iterable[AnySequence], length: int) -> list[list[AnySequence]]:
    """Which sequences make each row, in their order in it."""
    cut = [replace(s, ids=s.ids[:length], learnt=s.learnt[:length]) for s in found]
    rows: list[list[AnySequence]] = []
    room: list[int] = []
    for sequence in sorted(cut, key=lambda s: -len(s.ids)):
        at = next((i for i, left in enumerate(room) if left >= len(sequence.ids)), len(rows))
        if at == len(rows):
            rows.append([])
            room.append(length)
        rows[at].append(sequence)
        room[at] -= len(sequence.ids)
    return rows


def filled(rows: Sequence[Sequence[Tokens]], length: int) -> Rows:
    """The rows as tensors."""
    tables = np.zeros((4, len(rows), length), dtype=np.int64)
    tables[1] = IGNORED
    for at, row in enumerate(rows):
        _fill(tables[:, at], row)
    return Rows(*map(torch.from_numpy, tables))


def _fill(table: NDArray[np.int64], row: Sequence[Tokens]) -> None:
    """Write a row's sequences into (ids, targets, parts, positions), each of `length`."""
    start = 0
    for part, sequence in enumerate(row, start=1):
        n = len(sequence.ids)
        span = slice(start, start + n)
        table[0, span], table[2, span], table[3, span] = sequence.ids, part, np.arange(n)
        following = np.where(sequence.learnt[1:], sequence.ids[1:], IGNORED)
        table[1, start : start + n - 1] = following
        start += n


def chunk_rows(
    seed: int,
    index: int,
    length: int,
    style: PromptStyle,
    tokens: ChatTokens,
    corrected: Sequence[Dialogue] = (),
    share: float = 0.0,
) -> Rows:
    """The rows of one chunk, in random order; `share` of its episodes are corrected ones."""
    rng = random.Random(f"tune {seed}/{index}")
    drawn = [
        rng.choice(corrected) if corrected and rng.random() < share else draw_dialogue(rng)
        for _ in range(CHUNK)
    ]
    rows = pack((s for d in drawn for s in sequences(d, style, tokens)), length)
    order = list(range(len(rows)))
    rng.shuffle(order)
    return rows.taken(order)


class PackedChunks(IterableDataset[Rows]):
    """Chunks `first` to `last` (which is not one of them); workers take turns."""

    def __init__(self, first: int, last: int, **how: Any) -> None:
        self.first, self.last, self.how = first, last, how

    def __iter__(self) -> Iterator[Rows]:
        worker = torch.utils.data.get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for index in range(self.first + offset, self.last, stride):
            yield chunk_rows(index=index, **self.how)


def stream(chunks: PackedChunks, workers: int) -> Iterator[Rows]:
    """The chunks in their order, drawn by `workers` processes beside this one."""
    ahead = 2 if workers else None
    return iter(DataLoader(chunks, batch_size=None, num_workers=workers, prefetch_factor=ahead))
