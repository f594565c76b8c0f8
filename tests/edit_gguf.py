"""Write a GGUF again with other metadata, or in parts as they are published."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys


def rewrite(
    source: Path,
    target: Path,
    *,
    change: Mapping[str, Any] | None = None,
    add: Mapping[str, tuple[Any, GGUFValueType]] | None = None,
    drop: Collection[str] = (),
    tensors_a_part: int = 0,
) -> list[Path]:
    """Write `source` to `target`, in several files of `tensors_a_part` if that is not 0.

    Returns the files in order. `change` maps keys that are there to new values, `add` new ones.
    """
    reader = GGUFReader(source)
    architecture = reader.fields[Keys.General.ARCHITECTURE].contents()
    writer = GGUFWriter(target, architecture, split_max_tensors=tensors_a_part)
    for key, field in reader.fields.items():
        if key == Keys.General.ARCHITECTURE or key.startswith("GGUF.") or key in drop:
            continue
        value = (change or {}).get(key, field.contents())
        sub_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, field.types[0], sub_type=sub_type)
    for key, (value, kind) in (add or {}).items():
        writer.add_key_value(key, value, kind)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(target.parent.glob(f"{target.stem}-*-of-*.gguf")) if tensors_a_part else [target]
