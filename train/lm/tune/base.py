"""The checkpoint to begin with: a Hugging Face id, a folder, or a GGUF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_router.convert.checkpoint import Checkpoint
from edge_router.convert.dequantise import to_checkpoint
from edge_router.convert.download import fetch, is_repo, refuse_url
from edge_router.engine.gguf_file import FLOAT_TYPES, is_gguf, read_header
from edge_router.errors import UserError
from edge_router.files.paths import is_folder, why_no_file


def base_folder(base: str, run: Path, note: Callable[[str], None]) -> Path:
    """The folder of a checkpoint that can be trained. Raises `UserError`.

    A GGUF is written as a checkpoint into the run's folder; `note` hears what that means.
    """
    refuse_url(base)
    path = Path(base)
    if is_gguf(path) or path.suffix.lower() == ".gguf":
        return _from_gguf(path, run / "base", note)
    if not is_folder(path) and why_no_file(path) and is_repo(base):
        path = fetch(base).folder
    Checkpoint.open(path)
    return path


def _from_gguf(file: Path, folder: Path, note: Callable[[str], None]) -> Path:
    quantised = sorted(read_header(file).type_names - FLOAT_TYPES)
    if quantised:
        note(
            f"{file} is quantised ({', '.join(quantised)}): the values of its blocks are trained "
            "from, and what quantising lost is not there to learn from"
        )
    if not (folder / "config.json").is_file():  # it is written last
        to_checkpoint(file, folder)
    return folder


def require_chat(folder: Path, tokenizer: object) -> None:
    """Refuse a model that was never taught to chat. Raises `UserError`."""
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"{folder} has no chat template; take the model's -Instruct or -Chat checkpoint"
        )
