"""How many bytes a second memory gives: large copies, on one thread and on all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from edge_router.bench.timing import in_turn, seconds

_BYTES: Final = 1 << 28  # far more than any cache holds


def copy_bandwidth(threads: int, *, repeats: int = 3) -> tuple[float, float]:
    """Bytes read and written a second: (one thread, all `threads`), medians.

    numpy copies without Python's lock.
    """
    source = np.ones(_BYTES, np.uint8)
    target = np.zeros(_BYTES, np.uint8)
    with ThreadPoolExecutor(threads) as pool:

        def copied(count: int) -> float:
            edges = np.linspace(0, _BYTES, count + 1, dtype=int)

            def part(i: int) -> None:
                where = slice(edges[i], edges[i + 1])
                np.copyto(target[where], source[where])

            took = seconds(lambda: list(pool.map(part, range(count))))
            return 2 * _BYTES / took

        one, every = in_turn([lambda: copied(1), lambda: copied(threads)], repeats)
    return one.median, every.median
