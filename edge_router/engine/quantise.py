"""Make the tiers of a ladder: an F16 GGUF in, a GGUF of lower precision out.

llama.cpp does the work. What is added: the target appears only when it is
whole, and tensors that silently got another type than asked for are reported.
With an importance matrix (`engine.imatrix`) the columns that matter are kept best.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_router.engine.gguf_file import read_header
from edge_router.engine.imatrix import ImportanceMatrix
from edge_router.engine.llama_quantise import run_quantise
from edge_router.engine.machine import physical_cores
from edge_router.errors import UserError
from edge_router.files.whole import whole

# precision -> llama.cpp's file type
QUANTISED_TIERS: Final = {
    "f16": 1,
    "q4_0": 2,
    "q8_0": 7,
    "q5_0": 8,
    "iq1_s": 24,
    "iq1_m": 31,
    "iq2_xxs": 19,
    "iq2_xs": 20,
    "iq2_s": 28,
    "iq2_m": 29,
    "q2_k_s": 21,
    "q2_k": 10,
    "iq3_xxs": 23,
    "iq3_xs": 22,
    "iq3_s": 26,
    "iq3_m": 27,
    "q3_k_s": 11,
    "q3_k_m": 12,
    "q3_k_l": 13,
    "q4_k_s": 14,
    "q4_k_m": 15,
    "q5_k_s": 16,
    "q5_k_m": 17,
    "q6_k": 18,
    "iq4_nl": 25,
    "iq4_xs": 30,
}
# llama.cpp does not make these without an importance matrix
NEEDS_IMPORTANCE: Final = frozenset(
    ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "q2_k_s", "iq3_xxs")
)


@dataclass(frozen=True)
class Fallback:
    """A tensor whose rows did not fit the wanted type and got another one instead."""

    tensor: str
    columns: int
    wanted: str  # "q4_K"
    got: str  # "q5_0"


@dataclass(frozen=True)
class QuantiseReport:
    """What `quantise` wrote."""

    path: Path
    tier: str
    size_bytes: int
    seconds: float
    fallbacks: tuple[Fallback, ...]  # K-quants need rows that are multiples of 256


_FALLBACK: Final = re.compile(
    r"warning: (\S+)\s+- ncols\s+(\d+) not divisible by\s+\d+ \(required for type\s+(\S+)\)"
    r".*-> falling back to\s+(\S+)"
)


def quantise(
    source: Path,
    target: Path,
    tier: str,
    *,
    importance: ImportanceMatrix | None = None,
    threads: int | None = None,
) -> QuantiseReport:
    """Write the F16 or F32 GGUF `source` to `target` at the precision `tier` ("q4_k_m").

    `target` appears only when it is complete. Raises `UserError` for an
    unknown tier, one that needs an importance matrix and gets none, a source
    that is not a whole GGUF or is quantised already, or a target that cannot
    be written.
    """
    if tier not in QUANTISED_TIERS:
        known = ", ".join(QUANTISED_TIERS)
        raise UserError(f"there is no precision {tier!r}; choose one of {known}")
    if tier in NEEDS_IMPORTANCE and importance is None:
        raise UserError(f"the precision {tier} is not made without an importance matrix")
    source, target = Path(source), Path(target)
    read_header(source)
    if not target.parent.is_dir():
        raise UserError(f"{target} cannot be written: the folder {target.parent} does not exist")
    started = time.perf_counter()
    with whole(target) as partial:
        lines = run_quantise(
            source,
            partial,
            QUANTISED_TIERS[tier],
            threads or physical_cores(),
            importance.means if importance else None,
        )
    return QuantiseReport(
        path=target,
        tier=tier,
        size_bytes=target.stat().st_size,
        seconds=time.perf_counter() - started,
        fallbacks=tuple(
            Fallback(m[1], int(m[2]), m[3], m[4]) for m in map(_FALLBACK.search, lines) if m
        ),
    )
