"""What a GGUF says of the model's origin: name, licence, languages, sampling values and the like.

gguf reads them off README.md's front matter, generation_config.json and the
folder's name. No tier needs any of it, and people write what they like there:
what cannot be taken over is left out and reported.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_router.convert.checkpoint import cached_repo
from edge_router.files.data_files import parse_json, read_file

if TYPE_CHECKING:
    from gguf import GGUFWriter, Metadata

Note = Callable[[str], None]
_CARD, _GENERATION = "README.md", "generation_config.json"
_SAMPLING: Final = "sampling_"
# gguf's field -> Hugging Face's name, where it is another
_RENAMED: Final = {"temp": "temperature"}
# of a base model or a data set
_ORIGIN_KEYS: Final = [
    "name",
    "author",
    "version",
    "organization",
    "description",
    "url",
    "doi",
    "uuid",
    "repo_url",
]


def write_card(writer: GGUFWriter, folder: Path, parameters: int, note: Note) -> None:
    """Write what is known; `note` gets a sentence for what is left out."""
    import gguf

    metadata = _described(folder, parameters, note)
    for field in fields(metadata):
        value = getattr(metadata, field.name)
        fitting = _fitting(str(field.type), value)
        if fitting is None and value is not None:
            where = _GENERATION if field.name.startswith(_SAMPLING) else _CARD
            named = field.name.removeprefix(_SAMPLING)
            note(f"{where}: {_RENAMED.get(named, named)} is left out, it is not of a usable kind")
        setattr(metadata, field.name, fitting)
    cached = cached_repo(folder).rpartition("/")[2]  # the folder is called after a commit
    metadata.name = cached or metadata.name or folder.name.encode("utf-8", "replace").decode()
    if metadata.size_label is None:
        metadata.size_label = gguf.size_label(parameters, parameters, 0, 0)
    writer.add_type(gguf.GGUFType.MODEL)
    metadata.set_gguf_meta_model(writer)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _described(folder: Path, parameters: int, note: Note) -> Metadata:
    from gguf import Metadata

    card = _read(folder / _CARD, lambda: Metadata.load_model_card(folder), note)
    config = _read(folder / "config.json", lambda: Metadata.load_hf_parameters(folder), note)
    try:
        metadata = Metadata.apply_metadata_heuristic(Metadata(), card, config, folder, parameters)
    except Exception:  # it takes the front matter's types for granted
        note(f"{_CARD}: its front matter is left out, it is not what a model card has")
        metadata = Metadata.apply_metadata_heuristic(Metadata(), {}, {}, folder, parameters)
    generation = _read(folder / _GENERATION, lambda: _settings(folder / _GENERATION), note)
    for field in fields(metadata):
        if field.name.startswith(_SAMPLING):
            named = field.name.removeprefix(_SAMPLING)
            setattr(metadata, field.name, generation.get(_RENAMED.get(named, named)))
    return metadata


def _settings(path: Path) -> Any:
    return parse_json(read_file(path, "settings"))


def _read(path: Path, load: Callable[[], Any], note: Note) -> dict[str, Any]:
    """A file's content, empty when there is none or it cannot be read."""
    if not path.is_file():
        return {}
    try:
        found = load()
    except Exception as error:  # YAML's, JSON's, Unicode's, the file system's
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        note(f"{path.name} is left out, it cannot be read: {reason}")
        return {}
    if not isinstance(found, dict):
        note(f"{path.name} is left out, it does not hold names and values")
        return {}
    return found


# -- what can be written --------------------------------------------------------------------


def _fitting(kind: str, value: Any) -> Any:
    """`value` as a field of gguf's type `kind` takes it, None when it does not."""
    if "dict" in kind:
        return _origins(value)
    if "list" in kind:
        return value if value and _texts(value) else None
    if "int" in kind:
        return _whole(value)
    if "float" in kind:
        return _real(value)
    if isinstance(value, list) and value and _texts(value):  # a licence may be several
        return ",".join(value)
    return value if _text(value) else None


def _origins(value: Any) -> list[dict[str, str]] | None:
    """Base models or data sets: for each, texts by name."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        return None
    kept = [{k: v for k, v in entry.items() if k in _ORIGIN_KEYS} for entry in value]
    return kept if all(_texts(list(entry.values())) for entry in kept) else None


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _text(value: Any) -> bool:
    """Whether it is a text that UTF-8 can express."""
    return isinstance(value, str) and value.encode("utf-8", "replace").decode() == value


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    usable = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    return value if usable else None


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        struct.pack("<f", value)
    except (OverflowError, struct.error):  # too large for a float32, for a float
        return None
    return float(value)
