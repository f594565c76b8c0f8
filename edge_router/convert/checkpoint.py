"""A Hugging Face checkpoint on disk: config.json, a tokenizer, safetensors in one file or more.

Opening reads the headers only and checks all that can be checked without the
weights: every shard that the index names is there and whole, every tensor lies
inside its file and is F16, BF16 or F32. What is wrong is said in one sentence.

    checkpoint = Checkpoint.open(Path("SmolLM2-1.7B-Instruct"))
    checkpoint.tensors["model.norm.weight"].load()     # float32, or float16 as stored
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.gguf_file import refuse_lfs_pointer
from edge_router.errors import UserError
from edge_router.files.data_files import read_json, read_object
from edge_router.files.paths import is_folder

if TYPE_CHECKING:
    from gguf.utility import LocalTensor

MOST: Final = 2**31 - 1  # what a GGUF holds of such a number, and llama.cpp counts with
INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"
ITEM_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2}
# What decides the converted file besides the weights.
_SMALL_FILES: Final = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_PIECE: Final = 1 << 22  # values or bytes read at a time

Advance = Callable[[int], None]


def require_number(path: Path, what: str, value: Any, *, above: float = -math.inf) -> None:
    """Raise `UserError` unless `value` is a finite number above `above`."""
    fits = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if isinstance(value, bool) or not fits:
        raise UserError(f"{path}: {what} is {value!r:.60}, which is not a number; mend it there")
    if isinstance(value, int) and value > MOST:
        raise UserError(f"{path}: {what} is {value!r:.60}, which no model has; mend it there")
    if value <= above:
        raise UserError(f"{path}: {what} is {value!r:.60} and must be more than {above:g}")


def require_count(path: Path, what: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a whole number above 0."""
    require_number(path, what, value, above=0)
    if not isinstance(value, int):
        raise UserError(
            f"{path}: {what} is {value!r:.60}, which is not a whole number; mend it there"
        )


@dataclass(frozen=True)
class SourceTensor:
    """A tensor in a shard; `shape` is rows first, `dtype` F32, F16 or BF16."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    offset: int

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def rows(self, at_once: int) -> Iterator[NDArray[np.float16] | NDArray[np.float32]]:
        """The values in order, some `at_once` values a piece, BF16 widened to float32.

        A piece has the shape (n,); nothing but the piece is held in memory.
        """
        stored = np.dtype({"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[self.dtype])
        if not self.count:
            return
        mapped = np.memmap(
            self.file, dtype=stored, mode="r", offset=self.offset, shape=(self.count,)
        )
        for start in range(0, self.count, at_once):
            piece = np.array(mapped[start : start + at_once])
            if self.dtype == "BF16":  # the upper half of a float32
                piece = (piece.astype(np.uint32) << 16).view(np.float32)
            yield piece

    def load(self) -> NDArray[np.float16] | NDArray[np.float32]:
        """All values, of the tensor's shape."""
        (values,) = self.rows(max(1, self.count))
        return values.reshape(self.shape)


def same_values(one: SourceTensor, other: SourceTensor) -> bool:
    """Whether two tensors hold the same numbers, in whatever precision each is stored."""
    if one.shape != other.shape:
        return False
    pairs = zip(one.rows(_PIECE), other.rows(_PIECE), strict=True)
    return all(np.array_equal(a.astype(np.float32), b.astype(np.float32)) for a, b in pairs)


@dataclass(frozen=True)
class Checkpoint:
    """`config` is config.json as it stands; `tensors` are in the order of the shards."""

    folder: Path
    config: dict[str, Any]
    shards: tuple[Path, ...]
    tensors: dict[str, SourceTensor]

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Read `folder`. Raises `UserError` when it is not a whole checkpoint."""
        if not is_folder(folder):
            raise UserError(f"there is no checkpoint folder {folder}")
        _refuse_lfs_pointers(folder)
        config = _read_config(folder)
        shards = _shards(folder)
        tensors: dict[str, SourceTensor] = {}
        for shard in shards:
            tensors |= _read_shard(shard)
        _check_index(folder, tensors)
        return cls(folder, config, shards, tensors)

    @property
    def n_parameters(self) -> int:
        return sum(t.count for t in self.tensors.values())

    @property
    def n_bytes(self) -> int:
        """Length of the weights' files."""
        return sum(shard.stat().st_size for shard in self.shards)

    def fingerprint(self, advance: Advance = lambda n_bytes: None) -> str:
        """SHA-256 over configuration, tokenizer and all weights.

        All of them, because training may change one layer in the middle of a
        file. `advance` gets the bytes read.
        """
        digest = hashlib.sha256()
        for name in _SMALL_FILES:
            file = self.folder / name
            if file.is_file():
                digest.update(name.encode() + b"\0" + file.read_bytes())
        for shard in self.shards:
            digest.update(f"{shard.name}\0{shard.stat().st_size}\0".encode())
            hash_file(shard, digest, advance)
        return digest.hexdigest()


def cached_repo(folder: Path) -> str:
    """The Hugging Face id of a snapshot in its cache (models--ORG--NAME/snapshots/HASH), or ""."""
    *_, home, snapshots, _ = ("", "", *folder.absolute().parts)
    owner, _, name = home.removeprefix("models--").partition("--")
    if snapshots != "snapshots" or not home.startswith("models--"):
        return ""
    return f"{owner}/{name}" if name else owner


def hash_file(path: Path, digest: Any, advance: Advance) -> None:
    """Feed a file's bytes to `digest`. Raises `UserError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                advance(len(piece))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _refuse_lfs_pointers(folder: Path) -> None:
    for path in (*(folder / name for name in _SMALL_FILES), *sorted(folder.glob("*.safetensors"))):
        if path.is_file():
            refuse_lfs_pointer(path)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        _refuse_adapter(folder)
        raise UserError(f"{folder} is not a Hugging Face checkpoint: {_what_instead(folder)}")
    return read_object(path, "a model's configuration")


def _what_instead(folder: Path) -> str:
    """What to give in the place of a folder without config.json."""
    ggufs = sorted(f for f in folder.iterdir() if f.suffix.lower() == ".gguf")
    if ggufs:
        return f"it holds GGUFs; give the path of an unquantised one, as {ggufs[0]}"
    return (
        "it holds no config.json; give the folder that holds config.json, the tokenizer and the "
        ".safetensors files"
    )


def _refuse_adapter(folder: Path) -> None:
    """Raise `UserError` for an adapter: a change to a model that is not there."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        return
    described = read_json(path)
    base = described.get("base_model_name_or_path") if isinstance(described, dict) else None
    raise UserError(
        f"{folder} is a PEFT adapter, which has only the changes to {base or 'its base model'}: "
        f"give that model and the adapter, edge-router convert {base or 'BASE'} --adapter {folder}"
    )


def _shards(folder: Path) -> tuple[Path, ...]:
    """The safetensors files, sorted by name."""
    index = folder / INDEX
    if index.is_file():
        names = sorted(set(_weight_map(index).values()))
    elif (folder / SINGLE).is_file():
        names = [SINGLE]
    else:
        names = sorted(p.name for p in folder.glob("model*.safetensors"))
    if not names:
        _refuse_adapter(folder)
        hint = ""
        if any(folder.glob("*.bin")):
            hint = "; it has PyTorch .bin files, which are programs and are not read"
        raise UserError(f"{folder} holds no weights in model*.safetensors files{hint}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"the checkpoint {folder} is not complete: {INDEX} names {missing[0]}{more}, "
            "which is not there; download it again"
        )
    return tuple(folder / name for name in names)


def _weight_map(index: Path) -> dict[str, str]:
    data = read_json(index)
    found = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(found, dict) or not found:
        raise UserError(f"{index} names no weights")
    return {str(k): str(v) for k, v in found.items()}


def _check_index(folder: Path, tensors: dict[str, SourceTensor]) -> None:
    index = folder / INDEX
    if not index.is_file():
        return
    for name, shard in _weight_map(index).items():
        if name not in tensors:
            raise UserError(
                f"the checkpoint {folder} is not complete: {shard} lacks the tensor {name}"
            )


def _read_shard(path: Path) -> dict[str, SourceTensor]:
    from gguf.utility import SafetensorsLocal

    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if size < 8 or header > size - 8:  # before a damaged length asks for all memory
            raise _cut_off(path)
        listed = SafetensorsLocal(path).tensors
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{path} is damaged: its header cannot be read ({error})") from error
    return {name: _checked(path, size, name, tensor) for name, tensor in listed.items()}


def _checked(path: Path, size: int, name: str, tensor: LocalTensor) -> SourceTensor:
    if tensor.dtype not in ITEM_BYTES:
        raise UserError(
            f"the tensor {name} in {path.name} is {tensor.dtype}, and only F32, F16 and BF16 "
            "checkpoints can be converted; take the original, unquantised one"
        )
    source = SourceTensor(name, tensor.shape, tensor.dtype, path, tensor.data_range.offset)
    n_bytes = source.count * ITEM_BYTES[tensor.dtype]
    if tensor.data_range.size != n_bytes:
        raise UserError(f"{path} is damaged: the tensor {name} has the wrong length")
    if source.offset + n_bytes > size:
        raise _cut_off(path)
    return source


def _cut_off(path: Path) -> UserError:
    return UserError(f"{path} is cut off: it is shorter than its header says; download it again")
