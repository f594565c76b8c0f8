"""A GGUF as the source of a ladder: as it stands, or, where it is quantised, its values as F16.

What quantising lost does not come back: a tier made of a quantised GGUF is a copy of a copy, and
F16 in the ladder's figures means these values, not the model's original ones. A LoRA adapter that
was trained on these values is merged on the way.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.convert.adapter import Adapter
from edge_router.convert.architecture import PlannedTensor
from edge_router.convert.checkpoint import Advance, hash_file
from edge_router.convert.dequantise import hf_config, hf_names
from edge_router.convert.f16 import rotated_in_pairs, write_f16
from edge_router.engine.gguf_file import EMBEDDING, FLOAT_TYPES, GgufHeader, TensorInfo
from edge_router.engine.tensor_values import tensor_values
from edge_router.files.whole import Record
from edge_router.tasks.registry import METADATA_KEY

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter


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


# -- a quantised one ------------------------------------------------------------------------------

_WRITTEN_ANEW: Final = ("general.architecture", "general.file_type", METADATA_KEY)


@dataclass(frozen=True)
class _Block:
    """One tensor of the file, as `convert.f16` reads a checkpoint's."""

    name: str
    shape: tuple[int, ...]
    tensor: TensorInfo

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def rows(self, at_once: int) -> Iterator[NDArray[np.float32]]:
        """All values as one piece: a block is dequantised whole."""
        yield tensor_values(self.tensor).reshape(-1)


@dataclass(frozen=True)
class DequantisedSource(GgufFile):
    """A GGUF that is quantised, or one that an adapter changes."""

    adapter: Adapter | None = None
    prompt: str = ""  # the prompt style that the model was tuned for

    def fingerprint(self, advance: Advance) -> str:
        whole = super().fingerprint(advance)
        return f"{whole}+{self.adapter.fingerprint()}" if self.adapter else whole

    def write(
        self,
        target: Path,
        advance: Advance,
        *,
        check: bool,
        record: Record = lambda partial: None,
    ) -> tuple[str, ...]:
        import gguf

        reader = gguf.GGUFReader(self.header.path)

        def add_metadata(writer: GGUFWriter) -> None:
            _copy_metadata(reader, writer)
            if self.prompt:
                writer.add_string(METADATA_KEY, self.prompt)

        wide = write_f16(target, self.architecture, self._planned(), add_metadata, advance, record)
        return (*self._remarks(), *(f"{n} stays float32: F16 cannot hold its values" for n in wide))

    def _planned(self) -> list[PlannedTensor]:
        changes = self._changes()
        planned = []
        for tensor in self.header.tensors.values():
            shape = tuple(reversed(tensor.shape))
            block = _Block(tensor.name, shape, tensor)
            change = changes.get(tensor.name)
            planned.append(PlannedTensor(tensor.name, shape, len(shape) > 1, block, change=change))
        return planned

    def _changes(self) -> dict[str, Callable[[], NDArray[np.float32]]]:
        """What the adapter adds to each tensor, in llama.cpp's names and order of rows."""
        if self.adapter is None:
            return {}
        names, config = hf_names(self.header), hf_config(self.header)
        shapes = ((n, tuple(reversed(self.header.tensors[t].shape))) for t, n in names.items()
                  if t in self.header.tensors)  # fmt: skip
        self.adapter.require_fit(shapes)
        heads = {}
        if self.architecture == "llama":
            heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}
        return {
            ours: _change(self.adapter, theirs, heads.get(theirs.rpartition("_proj")[0][-1:], 0))
            for ours, theirs in names.items()
            if theirs in self.adapter.pairs
        }

    def _remarks(self) -> Iterator[str]:
        quantised = sorted(self.header.type_names - FLOAT_TYPES)
        if quantised:
            yield (
                f"{self.header.path.name} is quantised already ({', '.join(quantised)}): F16 is "
                "what its blocks stand for, and what quantising lost is in no tier"
            )


def _change(adapter: Adapter, theirs: str, heads: int) -> Callable[[], NDArray[np.float32]]:
    def change() -> NDArray[np.float32]:
        found: Any = adapter.change(theirs)
        return rotated_in_pairs(found, heads).astype(np.float32) if heads else found

    return change


def _copy_metadata(reader: GGUFReader, writer: GGUFWriter) -> None:
    for name, field in reader.fields.items():
        if name.startswith(("GGUF.", "split.")) or name in _WRITTEN_ANEW:  # the parts are joined
            continue
        kind, *inner = field.types
        writer.add_key_value(name, field.contents(), kind, sub_type=inner[-1] if inner else None)
