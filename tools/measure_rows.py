"""How many rows of logits a batch that verifies a draft should have (`engine.verify.ROWS`).

    python -m tools.measure_rows GGUF ... [--repeats 3] [--context 512]

For each file: seconds to read drafts of several lengths with logits after each token, in batches
of 8, 16, 32 and 64 tokens, taken in turn. A batch that is rejected early leaves the rest of
the draft unread, so below the medians stands what a draft costs on average where each token is
accepted with a probability. Needs the machine for itself; says what else ran meanwhile.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import edge_router  # noqa: F401  (switches telemetry off before the libraries are loaded)
from edge_router.bench.timing import in_turn, seconds
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.machine import cpu_model, physical_cores

BATCHES: Final = (8, 16, 32, 64)
DRAFTS: Final = (8, 16, 32, 64)
ACCEPTED: Final = (0.8, 0.9, 0.95, 0.99, 1.0)
_TOKEN: Final = 5  # any


def expected(batch_s: float, draft: int, rows: int, accepted: float) -> float:
    """Seconds of reading a draft in batches, each of which is read if all before it was accepted.

    `batch_s` is a batch's time, `accepted` the probability that a next token is accepted.
    """
    return float(sum(batch_s * accepted**start for start in range(0, draft, rows)))


def measured(path: Path, context: int, repeats: int) -> dict[int, float]:
    """Median seconds of one batch after `context` tokens, by its length; the token alone too."""
    model = LlamaModel.load(path)
    held = LlamaContext(
        model, n_ctx=context + max(BATCHES), n_threads=physical_cores(), max_rows=max(BATCHES)
    )
    held.decode([_TOKEN] * context, 0)

    def read(tokens: int) -> float:
        held.truncate(context)
        return seconds(lambda: held.decode_rows([_TOKEN] * tokens, context, tokens))

    sizes = (1, *BATCHES)
    taken = in_turn([partial(read, tokens) for tokens in sizes], repeats)
    held.close()
    model.close()
    return {size: sample.median for size, sample in zip(sizes, taken, strict=True)}


def told(path: Path, found: dict[int, float]) -> str:
    """The tables of one file, milliseconds."""
    lines = [
        f"{path.name}: one token {1e3 * found[1]:.1f} ms",
        "",
        _row("draft", "accepted", *BATCHES),
    ]
    for draft in DRAFTS:
        for accepted in ACCEPTED:
            costs = [
                f"{1e3 * expected(found[min(rows, draft)], draft, rows, accepted):.0f}"
                for rows in BATCHES
            ]
            lines.append(_row(draft, f"{accepted:g}", *costs))
    return "\n".join(lines)


def _row(*cells: object) -> str:
    return "  ".join(f"{cell!s:>8}" for cell in cells)


def _others(started: tuple[float, float]) -> float:
    """Cores that others kept busy since `started` (wall clock, all processors' busy seconds)."""
    wall, busy = time.time() - started[0], _busy() - started[1]
    own = sum(os.times()[:2])
    return max(0.0, (busy - own) / wall)


def _busy() -> float:
    words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    return sum(int(words[i]) for i in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--context", type=int, default=512)
    options = parser.parse_args(arguments)
    print(f"{cpu_model()}, {physical_cores()} threads")
    for path in options.files:
        started = time.time(), _busy() - sum(os.times()[:2])
        print(f"\n{told(path, measured(path, options.context, options.repeats))}")
        print(f"others kept {_others(started):.2f} cores busy", flush=True)


if __name__ == "__main__":
    main()
