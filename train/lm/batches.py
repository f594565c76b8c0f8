"""An endless, resumable stream of training batches, made in a process beside the trainer.

Chunk i holds the episodes of seed (run seed, i) and nothing else, so a
resumed run sees exactly the batches an unbroken one would. Episodes are
sorted into a few fixed lengths (`BUCKETS`): little padding, and few shapes
for torch.compile. Every batch has about `tokens` tokens. A third of a chunk
comes from the corrected episodes (`corrections.py`) where there are any.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from train.lm.episodes import draw_transcript

BUCKETS = (129, 193, 257, 385, 769)  # one more than a multiple of 64: inputs and targets overlap
CHUNK = 2048  # episodes drawn at a time
CORRECTED_SHARE = 1 / 3

Arrays = tuple[NDArray[np.int16], NDArray[np.float16]]  # ids and weights of an episode


@dataclass(frozen=True)
class Batch:
    ids: Tensor  # (rows, bucket) int64
    weights: Tensor  # (rows, bucket) float32, 0 on padding


def pad(rows: list[Arrays], length: int) -> Batch:
    ids = np.zeros((len(rows), length), dtype=np.int64)
    weights = np.zeros((len(rows), length), dtype=np.float32)
    for i, (row, weight) in enumerate(rows):
        n = min(len(row), length)
        ids[i, :n], weights[i, :n] = row[:n], weight[:n]
    return Batch(torch.from_numpy(ids), torch.from_numpy(weights))


def chunk_batches(
    seed: int, index: int, tokens: int, corrected: Sequence[Arrays] = ()
) -> list[Batch]:
    """The batches of one chunk, shuffled. Leftovers too few for a full batch are dropped."""
    rng = random.Random(f"{seed}/{index}")
    buckets: dict[int, list[Arrays]] = {length: [] for length in BUCKETS}
    share = CORRECTED_SHARE if corrected else 0.0
    for _ in range(CHUNK):
        old = rng.random() < share
        arrays = rng.choice(corrected) if old else draw_transcript(rng).arrays()
        buckets[next((b for b in BUCKETS if len(arrays[0]) <= b), BUCKETS[-1])].append(arrays)
    batches = []
    for length, rows in buckets.items():
        size = max(1, tokens // (length - 1))
        for at in range(0, len(rows) - size + 1, size):
            batches.append(pad(rows[at : at + size], length))
    rng.shuffle(batches)
    return batches


class Chunks(IterableDataset[list[Batch]]):
    def __init__(self, seed: int, first: int, tokens: int, corrected: Sequence[Arrays]) -> None:
        self.seed, self.first, self.tokens, self.corrected = seed, first, tokens, corrected

    def __iter__(self) -> Iterator[list[Batch]]:
        index = self.first
        while True:
            yield chunk_batches(self.seed, index, self.tokens, self.corrected)
            index += 1


def load_corrected(path: Path) -> list[Arrays]:
    """The episodes that `corrections.save` wrote."""
    with np.load(path) as data:
        ends = data["ends"][:-1]
        return list(zip(np.split(data["ids"], ends), np.split(data["weights"], ends), strict=True))


def stream(
    seed: int, first_chunk: int, tokens: int, corrected: Sequence[Arrays] = ()
) -> Iterator[list[Batch]]:
    """Chunks of batches from `first_chunk` on, prepared by one worker process."""
    chunks = Chunks(seed, first_chunk, tokens, corrected)
    return iter(DataLoader(chunks, batch_size=None, num_workers=1, prefetch_factor=1))
