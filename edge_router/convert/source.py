"""What is to be converted: a checkpoint folder, or a GGUF that is not quantised yet.

Both answer the same questions: a name for the ladder, a fingerprint, how many
parameters, and an F16 (or BF16, F32) GGUF to quantise from.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edge_router.convert.architecture import (
    PlannedTensor,
    architecture_of,
    plan,
    read_hparams,
    write_hparams,
)
from edge_router.convert.checkpoint import Checkpoint, sample_file
from edge_router.convert.f16 import write_f16
from edge_router.convert.tokens import check_vocabulary
from edge_router.convert.vocabulary import Vocabulary, load_tokenizer, read_vocabulary
from edge_router.engine.gguf_file import FLOAT_TYPES, GgufHeader, read_header
from edge_router.errors import UserError
from edge_router.parts import load_part

if TYPE_CHECKING:
    from gguf import GGUFWriter

Advance = Callable[[int], None]


class Source(Protocol):
    """`given` is the source's own unquantised GGUF, None where one has to be written."""

    @property
    def title(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def architecture(self) -> str: ...

    @property
    def n_parameters(self) -> int: ...

    @property
    def n_vocab(self) -> int: ...

    @property
    def given(self) -> Path | None: ...

    def write(self, target: Path, advance: Advance, *, check: bool) -> tuple[str, ...]:
        """Write the F16 GGUF; returns what the user should know of it, a sentence each.

        With `check`, text that llama.cpp would read differently is refused;
        without, it is told.
        """
        ...


def open_source(path: Path, repo: str = "") -> Source:
    """The source at `path`, fetched from `repo`. Raises `UserError` when it is not whole."""
    if path.is_dir() or path.suffix != ".gguf":
        _use_libraries()
        return CheckpointSource(Checkpoint.open(path), repo or str(path), bool(repo))
    return GgufSource(read_header(path), str(path))


def _use_libraries() -> None:
    """Load what reads checkpoints, and keep it from talking on our stderr."""
    for module in ("gguf", "transformers"):
        load_part(module, extra="convert")
    chatter = load_part("transformers.utils.logging", extra="convert")
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    for logger in ("gguf", "gguf.vocab", "gguf.gguf_writer", "metadata"):
        logging.getLogger(logger).setLevel(logging.ERROR)


def slug(text: str) -> str:
    """A name fit for files and for --model: "Qwen/Qwen3-0.6B" is "qwen3-0.6b"."""
    words = re.sub(r"[^a-z0-9._-]+", "-", Path(text).name.lower()).strip("-._")
    return words or "model"


@dataclass(frozen=True)
class CheckpointSource:
    """A folder of safetensors."""

    checkpoint: Checkpoint
    title: str
    fetched: bool = False  # `title` is a Hugging Face id
    given: Path | None = None

    @property
    def name(self) -> str:
        return slug(self.title if self.fetched else str(self.checkpoint.folder.resolve()))

    @cached_property
    def fingerprint(self) -> str:
        return self.checkpoint.fingerprint()

    @cached_property
    def architecture(self) -> str:
        return architecture_of(self.checkpoint)

    @cached_property
    def hparams(self) -> dict[str, Any]:
        return read_hparams(self.checkpoint.folder)

    @cached_property
    def planned(self) -> list[PlannedTensor]:
        return plan(self.checkpoint, self.architecture, self.hparams)

    @property
    def n_parameters(self) -> int:
        return sum(int(np.prod(t.shape, dtype=np.int64)) for t in self.planned)

    @property
    def n_vocab(self) -> int:
        return int(self.hparams["vocab_size"])

    def write(self, target: Path, advance: Advance, *, check: bool) -> tuple[str, ...]:
        folder = self.checkpoint.folder
        tokenizer = load_tokenizer(folder)
        vocabulary = read_vocabulary(folder, tokenizer, self.n_vocab)
        remarks = self._compare(target.parent, vocabulary, tokenizer, check)

        def add_metadata(writer: GGUFWriter) -> None:
            _write_general(writer, folder, self.n_parameters)
            write_hparams(writer, self.architecture, self.hparams)
            vocabulary.write(writer)

        wide = write_f16(target, self.architecture, self.planned, add_metadata, advance)
        held = "stays float32: it holds values that F16 cannot"
        return (*remarks, *(f"{tensor} {held}" for tensor in wide))

    def _compare(
        self, scratch: Path, vocabulary: Vocabulary, tokenizer: Any, check: bool
    ) -> tuple[str, ...]:
        try:
            return check_vocabulary(scratch, vocabulary, tokenizer, self.architecture)
        except UserError as error:
            if check:
                raise UserError(f"{error} (--no-verify converts it nevertheless)") from error
            return (str(error),)


def _write_general(writer: GGUFWriter, folder: Path, parameters: int) -> None:
    """Name, licence and the like, as gguf reads them off the model card and the folder's name."""
    import gguf

    metadata = gguf.Metadata.load(None, folder, None, parameters)
    metadata.name = metadata.name or folder.name
    if metadata.size_label is None:
        metadata.size_label = gguf.size_label(parameters, parameters, 0, 0)
    writer.add_type(gguf.GGUFType.MODEL)
    metadata.set_gguf_meta_model(writer)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


@dataclass(frozen=True)
class GgufSource:
    """An F16, BF16 or F32 GGUF."""

    header: GgufHeader
    title: str

    def __post_init__(self) -> None:
        quantised = sorted(self.header.type_names - FLOAT_TYPES)
        if quantised:
            raise UserError(
                f"{self.header.path} is quantised already ({quantised[0]}); "
                "give the F16, BF16 or F32 GGUF it was made from"
            )

    @property
    def name(self) -> str:
        stem = re.sub(r"[-._](f16|bf16|f32|fp16)$", "", self.header.path.stem.lower())
        return slug(stem)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        sample_file(self.header.path, digest)
        return digest.hexdigest()

    @property
    def architecture(self) -> str:
        return self.header.architecture

    @property
    def n_parameters(self) -> int:
        return sum(int(np.prod(t.shape, dtype=np.int64)) for t in self.header.tensors.values())

    @property
    def n_vocab(self) -> int:
        embeddings = self.header.tensors.get("token_embd.weight")
        return embeddings.shape[1] if embeddings and len(embeddings.shape) > 1 else 0

    @property
    def given(self) -> Path:
        return self.header.path

    def write(self, target: Path, advance: Advance, *, check: bool) -> tuple[str, ...]:
        raise ValueError("a GGUF is quantised from as it is")
