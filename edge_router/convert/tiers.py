"""Quantise in a process of its own, because one call into llama.cpp may take minutes.

Python sees Ctrl-C only when such a call returns. Here it ends the child at
once, and the half-written file goes; the parent also sees how far it is by the
size of that file, and gets the memory back. The child ends by itself when its
parent is gone, however that ended: it holds a pipe from it.

    quantise_tier(f16, target, "q4_k_m", advance=...)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_router.engine.gguf_file import GGML_TYPES, TYPE_NUMBERS
from edge_router.engine.imatrix import read_imatrix
from edge_router.engine.quantise import Fallback, quantise
from edge_router.errors import UserError
from edge_router.files.whole import disk_full, temporary, whole, writing
from edge_router.work.processes import python_module

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Quantised:
    """What a child wrote."""

    size_bytes: int
    seconds: float
    fallbacks: tuple[Fallback, ...]


def fallback_notes(tier: str, fallbacks: Sequence[Fallback], matrices: int) -> list[str]:
    """A sentence for each length of rows that did not fit: which types, how often, which weights.

    `matrices` is how many the tier has. What a name promises is what its matrices are made of, so
    the share that is something else matters; a line for each would be 180 for a small model.
    """
    by_columns: dict[int, list[Fallback]] = {}
    for fallback in fallbacks:
        by_columns.setdefault(fallback.columns, []).append(fallback)
    return [
        f"{tier}: {len(found)} of {matrices} matrices have rows of {columns}, no multiple of "
        f"{_block(found)}: {_changes(found)}"
        for columns, found in sorted(by_columns.items())
    ]


def _block(fallbacks: Sequence[Fallback]) -> int:
    """Values in the largest block that did not fit."""
    return max(GGML_TYPES[TYPE_NUMBERS[f.wanted.upper()]][1] for f in fallbacks)


def _changes(fallbacks: Sequence[Fallback]) -> str:
    """ "q4_k became q5_0 in 90 (attn_k, attn_q)", the commonest change first."""
    changes: dict[tuple[str, str], list[str]] = {}
    for f in fallbacks:
        weight = f.tensor.removesuffix(".weight").rpartition(".")[2]
        changes.setdefault((f.wanted.lower(), f.got.lower()), []).append(weight)
    return "; ".join(
        f"{wanted} became {got} in {len(weights)} ({', '.join(sorted(set(weights)))})"
        for (wanted, got), weights in sorted(changes.items(), key=lambda c: -len(c[1]))
    )


def quantise_tier(
    source: Path,
    target: Path,
    tier: str,
    *,
    imatrix: Path | None = None,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda n_bytes: None,
    record: Callable[[Path, Quantised], None] = lambda partial, made: None,
) -> Quantised:
    """Write `source` at precision `tier` to `target`, which appears when it is whole.

    `advance` gets the bytes written so far, and `record` is given the file
    before it gets its name. Raises `UserError`.
    """
    with whole(target, lambda partial: record(partial, made)) as partial:
        made = _in_a_child(source, target, partial, tier, imatrix, threads, advance)
    return made


def _in_a_child(
    source: Path,
    target: Path,
    written: Path,
    tier: str,
    imatrix: Path | None,
    threads: int | None,
    advance: Callable[[int], None],
) -> Quantised:
    """Have a child write the file `written`; messages call it `target`."""
    lifeline, ours = os.pipe()  # the child reads it to its end, which is ours
    order = {
        "source": str(source),
        "target": str(target),
        "written": str(written),
        "tier": tier,
        "imatrix": str(imatrix) if imatrix else None,
        "threads": threads,
        "lifeline": lifeline,
    }
    child = subprocess.Popen(
        python_module("edge_router.convert.tiers", json.dumps(order)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=(lifeline,),
        start_new_session=True,  # Ctrl-C is ours to pass on
    )
    os.close(lifeline)
    partial = temporary(written, child.pid)
    try:
        while True:
            try:
                out, err = child.communicate(timeout=_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                advance(_size(partial))
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        os.close(ours)
        partial.unlink(missing_ok=True)
    return _answer(target, child.returncode, out, err)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _answer(target: Path, code: int, out: str, err: str) -> Quantised:
    try:
        said: dict[str, Any] = json.loads(out)
    except ValueError:
        last = (err.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(
            f"{target} cannot be written: quantising ended with {code} ({last})"
        ) from None
    if "iostream error" in said.get("error", ""):  # all that C++ says of a failed write
        raise disk_full(target)
    if "error" in said:
        raise UserError(said["error"])
    fallbacks = tuple(Fallback(**f) for f in said["fallbacks"])
    return Quantised(said["size_bytes"], said["seconds"], fallbacks)


# -- the child ------------------------------------------------------------------------------


def _end_with_parent(lifeline: int, partial: Path) -> None:
    """Wait for the parent's end of the pipe to close, and then leave nothing behind."""

    def wait() -> None:
        os.read(lifeline, 1)
        partial.unlink(missing_ok=True)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: Sequence[str]) -> int:
    """Do what the parent's JSON says and reply in JSON."""
    order = json.loads(arguments[0])
    target, written = Path(order["target"]), Path(order["written"])
    partial = temporary(written)
    _end_with_parent(order["lifeline"], partial)
    try:
        with writing(target):
            matrix = read_imatrix(Path(order["imatrix"])) if order["imatrix"] else None
            report = quantise(
                Path(order["source"]),
                written,
                order["tier"],
                importance=matrix,
                threads=order["threads"],
            )
        said: dict[str, Any] = {
            "size_bytes": report.size_bytes,
            "seconds": report.seconds,
            "fallbacks": [asdict(f) for f in report.fallbacks],
        }
    except UserError as error:
        said = {"error": str(error)}
    print(json.dumps(said), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
