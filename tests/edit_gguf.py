"""Write a GGUF again with other metadata or weights, or in parts as they are published."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys
from numpy.typing import NDArray

Weights = NDArray[np.floating[Any]]


def rewrite(
    source: Path,
    target: Path,
    *,
    change: Mapping[str, Any] | None = None,
    add: Mapping[str, tuple[Any, GGUFValueType]] | None = None,
    drop: Collection[str] = (),
    weights: Callable[[str, Weights], Weights] = lambda name, values: values,
    extra: Mapping[str, str] | None = None,
    tensors_a_part: int = 0,
) -> list[Path]:
    """Write `source` to `target`, in several files of `tensors_a_part` if that is not 0.

    Returns the files in order. `change` maps keys that are there to new values, `add` new ones.
    `weights` gives a tensor's values (rows, columns) of unquantised types anew, `extra` names new
    tensors after those that they are copies of.
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
        if kind == GGUFValueType.ARRAY:
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, kind)
    for tensor in reader.tensors:
        data = weights(tensor.name, tensor.data) if tensor.data.dtype != np.uint8 else tensor.data
        names = [name for name, like in (extra or {}).items() if like == tensor.name]
        for name in (tensor.name, *names):
            writer.add_tensor(name, data.astype(tensor.data.dtype), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(target.parent.glob(f"{target.stem}-*-of-*.gguf")) if tensors_a_part else [target]
