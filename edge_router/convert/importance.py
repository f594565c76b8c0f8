"""The importance matrix of a conversion: from a file, a text, or the task's own games.

`--imatrix auto` lets the F16 model read the shipped games, played by the scripted
expert in the in-process simulator, each once and in the ladder's own prompt:
what the model will see in play. `--imatrix FILE` takes a matrix in llama.cpp's
GGUF form or any text to measure one on. Tiers below Q4 are made with it; above,
the difference is lost in the noise and llama.cpp is left to its own weights.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge_router.agent.template import ChatTemplate
from edge_router.engine.gguf_file import refuse_lfs_pointer
from edge_router.engine.imatrix import ImportanceMatrix, collect, read_imatrix
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.quantise import NEEDS_IMPORTANCE
from edge_router.engine.tier_sizes import BITS_A_WEIGHT
from edge_router.errors import UserError
from edge_router.tasks.protocol import PromptStyle
from edge_router.tasks.registry import find_task

AUTO: Final = "auto"
MAX_TOKENS: Final = 16_384

# "auto" stands for what this version reads; another number makes the tiers anew.
_AUTO_KEY: Final = "auto-1"


def uses_importance(tier: str, asked: str) -> bool:
    """Whether `tier` is made with a matrix: below Q4 when one is asked for, always if it must."""
    low = BITS_A_WEIGHT[tier] < BITS_A_WEIGHT["iq4_xs"]
    return tier in NEEDS_IMPORTANCE or (low and bool(asked))


def importance_key(asked: str) -> str:
    """What tells matrices apart without making one: `_AUTO_KEY`, or the file's SHA-256."""
    return _AUTO_KEY if asked in ("", AUTO) else hashlib.sha256(_content(asked)).hexdigest()


def require_importance(asked: str, columns: Mapping[str, int]) -> None:
    """Raise `UserError` unless `asked` stands for a matrix that fits weights of these columns."""
    if asked in ("", AUTO):
        return
    path, content = Path(asked), _content(asked)
    if content.startswith(b"GGUF"):
        _require_fitting(read_imatrix(path), path, columns)
    elif not own_text(path, content).strip():
        raise UserError(f"an importance matrix needs a text, and {path} is empty")


def _content(asked: str) -> bytes:
    path = Path(asked)
    try:
        refuse_lfs_pointer(path)
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"--imatrix wants auto, a text or an importance matrix, and {path} cannot be read: "
            f"{error.strerror}"
        ) from error


def make_importance(
    f16: Path, asked: str, style: PromptStyle, *, threads: int | None = None
) -> ImportanceMatrix:
    """The matrix that `asked` stands for, which is one that fits. Raises `UserError`."""
    path = Path(asked)
    content = b"" if asked in ("", AUTO) else _content(asked)
    if content.startswith(b"GGUF"):
        return read_imatrix(path)
    model = LlamaModel.load(f16, vocab_only=True)
    try:
        text = own_text(path, content) if content else games_text(model, style)
        tokens = model.tokenize(text)[:MAX_TOKENS]
    finally:
        model.close()
    return collect(f16, [tokens], threads=threads)


def _require_fitting(matrix: ImportanceMatrix, path: Path, columns: Mapping[str, int]) -> None:
    """llama.cpp stops half-way at a column count that differs; this says it beforehand."""
    for name, means in matrix.means.items():
        if columns.get(name) != means.size:
            raise UserError(f"{path} is the importance matrix of another model (tensor {name})")


def own_text(path: Path, content: bytes) -> str:
    """The user's text. Raises `UserError` when it is something else."""
    with contextlib.suppress(UnicodeDecodeError):
        text = content.decode("utf-8")
        if "\0" not in text:
            return text
    raise UserError(
        f"{path} is neither a text nor an importance matrix in GGUF form; an imatrix.dat of "
        f"llama.cpp before July 2025 becomes one by: llama-imatrix --in-file {path.name} "
        f"-o {path.stem}.gguf"
    )


def games_text(model: LlamaModel, style: PromptStyle) -> str:
    """The task's own games one after another, as chats."""
    template = ChatTemplate(
        model.chat_template, bos=model.token_text(model.bos_id), eos=model.token_text(model.eos_id)
    )
    return "\n".join(template.render(game, lead=False) for game in find_task().calibration(style))
