"""What is to be converted: a checkpoint folder, or a GGUF that is not quantised yet.

All answer the same questions: a name for the ladder, a fingerprint, how many
parameters. A GGUF that is not quantised is quantised from as it stands (`GgufSource`); of the
others an F16 GGUF is written first (`WrittenSource`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from edge_router.convert.adapter import Adapter, with_adapter
from edge_router.convert.architecture import (
    PlannedTensor,
    architecture_of,
    plan,
    read_hparams,
    write_hparams,
)
from edge_router.convert.card import write_card
from edge_router.convert.checkpoint import Advance, Checkpoint, cached_repo
from edge_router.convert.f16 import write_f16
from edge_router.convert.gguf_source import DequantisedSource, GgufSource, slug
from edge_router.convert.tokens import check_vocabulary
from edge_router.convert.vocabulary import Vocabulary, load_tokenizer, read_vocabulary
from edge_router.engine.gguf_file import FLOAT_TYPES, is_gguf, read_header
from edge_router.engine.trust import require_tried
from edge_router.errors import UserError
from edge_router.files.paths import is_folder, why_no_file
from edge_router.files.whole import Record
from edge_router.parts import load_part
from edge_router.tasks.registry import METADATA_KEY

if TYPE_CHECKING:
    from gguf import GGUFWriter

PROMPT_STYLE: Final = "edge_router_prompt_style"  # in config.json: what the model was tuned for


class Source(Protocol):
    """What a ladder is made of: a checkpoint, or an unquantised GGUF."""

    @property
    def title(self) -> str:
        """Where it comes from, for people: a Hugging Face id, a folder or a file."""
        ...

    @property
    def name(self) -> str:
        """What its ladder is called when nobody says otherwise."""
        ...

    @property
    def architecture(self) -> str:
        """llama.cpp's name of it."""
        ...

    @property
    def n_parameters(self) -> int:
        """Weights of the F16 file."""
        ...

    @property
    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        ...

    @property
    def n_bytes(self) -> int:
        """Bytes of the files that hold the weights."""
        ...

    @property
    def columns(self) -> dict[str, int]:
        """Columns of every tensor of the F16 file, by its name there."""
        ...

    def fingerprint(self, advance: Advance) -> str:
        """SHA-256 over all that decides what is made of it."""
        ...


class WrittenSource(Source, Protocol):
    """A source that is no unquantised GGUF: one is written of it."""

    def write(
        self,
        target: Path,
        advance: Advance,
        *,
        check: bool,
        record: Record = lambda partial: None,
    ) -> tuple[str, ...]:
        """Write the F16 GGUF; returns what the user should know of it, a sentence each.

        With `check`, text that llama.cpp would read differently is refused;
        without, it is reported. `record` is given the finished file before it gets its name.
        """
        ...


def open_source(
    path: Path,
    repo: str = "",
    *,
    adapter: Path | None = None,
    requantise: bool = False,
    prompt: str = "",
) -> GgufSource | WrittenSource:
    """The source at `path`, fetched from `repo`. Raises `UserError` when it is not whole.

    `adapter` is the folder of a LoRA adapter to merge into it. A quantised GGUF is taken with
    `requantise` alone. `prompt` is the style that the model was tuned for.
    """
    if not is_folder(path) and not why_no_file(path):
        _require_gguf(path)
    merged = Adapter.open(adapter) if adapter else None
    if is_gguf(path) or path.suffix.lower() == ".gguf":
        titled = f"{repo}/{path.name}" if repo else str(path)
        return _gguf_source(path, titled, merged, requantise, prompt)
    _use_libraries()
    repo = repo or cached_repo(path)
    return CheckpointSource(Checkpoint.open(path), repo or str(path), bool(repo), adapter=merged)


def _gguf_source(
    path: Path, title: str, adapter: Adapter | None, requantise: bool, prompt: str
) -> GgufSource | WrittenSource:
    header = read_header(path)
    quantised = sorted(header.type_names - FLOAT_TYPES)
    if quantised and not requantise:
        raise UserError(
            f"{header.path} is quantised already ({quantised[0]}); "
            "give the F16, BF16 or F32 GGUF it was made from, or take its values as they are with "
            "--allow-requantize"
        )
    require_tried(header)
    if not quantised and adapter is None:
        return GgufSource(header, title)
    load_part("gguf", extra="convert")
    merged = f"{title} with the adapter {adapter.folder.name}" if adapter else title
    return DequantisedSource(header, merged, adapter, prompt)


def _require_gguf(path: Path) -> None:
    """A GGUF is known by how it begins, whatever it is called; other files are refused."""
    try:
        with path.open("rb") as file:
            begins = file.read(4)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if begins == b"GGUF" or path.suffix.lower() == ".gguf":
        return
    if path.suffix in (".safetensors", ".json"):
        raise UserError(
            f"{path} is one file of a checkpoint; give the folder that holds it, {path.parent}"
        )
    if path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        raise UserError(f"{path} is a PyTorch file, which is a program and is not read")
    raise UserError(f"{path} is neither a GGUF nor a folder with a checkpoint")


def _use_libraries() -> None:
    """Load what reads checkpoints, and keep it from talking on our stderr."""
    for module in ("gguf", "transformers"):
        load_part(module, extra="convert")
    chatter = load_part("transformers.utils.logging", extra="convert")
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    for logger in ("gguf", "gguf.vocab", "gguf.gguf_writer", "metadata"):
        logging.getLogger(logger).setLevel(logging.ERROR)


@dataclass(frozen=True)
class CheckpointSource:
    """A folder of safetensors."""

    checkpoint: Checkpoint
    title: str
    is_repo: bool = False  # `title` is a Hugging Face id
    adapter: Adapter | None = None

    @property
    def name(self) -> str:
        return slug(self.title if self.is_repo else str(self.checkpoint.folder.resolve()))

    def fingerprint(self, advance: Advance) -> str:
        whole = self.checkpoint.fingerprint(advance)
        return f"{whole}+{self.adapter.fingerprint()}" if self.adapter else whole

    @cached_property
    def architecture(self) -> str:
        return architecture_of(self.checkpoint)

    @cached_property
    def hparams(self) -> dict[str, Any]:
        return read_hparams(self.checkpoint.folder, self.architecture)

    @cached_property
    def planned(self) -> list[PlannedTensor]:
        planned = plan(self.checkpoint, self.architecture, self.hparams)
        return with_adapter(planned, self.adapter) if self.adapter else planned

    @property
    def n_parameters(self) -> int:
        return sum(int(np.prod(t.shape, dtype=np.int64)) for t in self.planned)

    @property
    def n_vocab(self) -> int:
        return int(self.hparams["vocab_size"])

    @property
    def n_bytes(self) -> int:
        return self.checkpoint.n_bytes

    @property
    def columns(self) -> dict[str, int]:
        return {t.name: t.shape[-1] for t in self.planned}

    def write(
        self,
        target: Path,
        advance: Advance,
        *,
        check: bool,
        record: Record = lambda partial: None,
    ) -> tuple[str, ...]:
        folder = self.checkpoint.folder
        tokenizer = load_tokenizer(folder)
        vocabulary = read_vocabulary(folder, tokenizer, self.n_vocab)
        remarks = [*self._compare(target.parent, vocabulary, tokenizer, check)]

        def add_metadata(writer: GGUFWriter) -> None:
            write_card(writer, folder, self.n_parameters, remarks.append)
            write_hparams(writer, self.architecture, self.hparams)
            vocabulary.write(writer)
            if style := self.checkpoint.config.get(PROMPT_STYLE):
                writer.add_string(METADATA_KEY, str(style))

        wide = write_f16(target, self.architecture, self.planned, add_metadata, advance, record)
        held = "stays float32: it holds values that F16 cannot"
        return (*dict.fromkeys(remarks), *(f"{tensor} {held}" for tensor in wide))

    def _compare(
        self, scratch: Path, vocabulary: Vocabulary, tokenizer: Any, check: bool
    ) -> tuple[str, ...]:
        try:
            return check_vocabulary(scratch, vocabulary, tokenizer, self.architecture)
        except UserError as error:
            if check:
                raise UserError(f"{error} (--no-verify converts it nevertheless)") from error
            return (str(error),)
