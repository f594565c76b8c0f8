"""A GGUF that is converted as it stands: its weights are what the tiers are made from."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_router.convert.checkpoint import Advance, hash_file
from edge_router.engine.gguf_file import EMBEDDING, GgufHeader


def slug(text: str) -> str:
    """A name fit for files and for --model: "Qwen/Qwen3-0.6B" is "qwen3-0.6b"."""
    words = re.sub(r"[^a-z0-9._-]+", "-", Path(text).name.lower()).strip("-._")
    return words or "model"


@dataclass(frozen=True)
class GgufFile:
    """What a GGUF answers as a source, whatever becomes of it."""

    header: GgufHeader
    title: str

    @property
    def name(self) -> str:
        stem = re.sub(r"(-\d{5}-of-\d{5})?(\.gguf)?$", "", self.header.path.name.lower())
        return slug(re.sub(r"[-._](f16|bf16|f32|fp16)$", "", stem))

    def fingerprint(self, advance: Advance) -> str:
        digest = hashlib.sha256()
        for part in self.header.parts:
            hash_file(part, digest, advance)
        return digest.hexdigest()

    @property
    def architecture(self) -> str:
        return self.header.architecture

    @property
    def n_parameters(self) -> int:
        return sum(int(np.prod(t.shape, dtype=np.int64)) for t in self.header.tensors.values())

    @property
    def n_vocab(self) -> int:
        embeddings = self.header.tensors.get(EMBEDDING)
        return embeddings.shape[1] if embeddings and len(embeddings.shape) > 1 else 0

    @property
    def n_bytes(self) -> int:
        return self.header.size_bytes

    @property
    def columns(self) -> dict[str, int]:
        return {name: t.shape[0] for name, t in self.header.tensors.items()}


@dataclass(frozen=True)
class GgufSource(GgufFile):
    """An F16, BF16 or F32 GGUF: the tiers are made from the file as it stands."""

    @property
    def path(self) -> Path:
        """The file, the first of its parts."""
        return self.header.path
