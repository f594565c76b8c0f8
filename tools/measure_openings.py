"""What keeping a prompt's opening saves: computing it, against loading it from the disk.

    python -m tools.measure_openings GGUF ... [--short] [--repeats 3]

For each file an ALFWorld game begins as `edge-router play` begins it: once with an empty store,
then as the next process does (loaded), then as the next game of that process does (in the cache).
With --short it is about short beginnings: what computing them costs, loading them, and how much
longer two batches take than one; it says from where on an opening pays.
Needs the machine for itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import edge_router  # noqa: F401  (switches telemetry off before the libraries are loaded)
from edge_router.agent.prompt import Prompt
from edge_router.agent.template import ChatTemplate
from edge_router.engine import openings
from edge_router.engine.ladder import Ladder, default_context
from edge_router.engine.openings import OpeningStore
from edge_router.engine.tier_spec import TierSpec
from edge_router.tasks.alfworld.react_prompt import ReactStyle
from edge_router.tasks.protocol import Opening

GAMES: Final = (
    Opening("You are in a room. You see a desk 1, and a bed 1.", "put some pen on desk."),
    Opening("You are in a room. You see a sofa 1, and a shelf 2.", "put some book on sofa."),
)
BEGINNINGS: Final = (16, 32, 64, 128, 256)
AFTER: Final = 128  # tokens that follow a short beginning


@dataclass(frozen=True)
class Saved:
    """One file; seconds up to the first logits of a game, and the opening's part of them."""

    file: str
    opening_tokens: int
    prompt_tokens: int
    kept_mb: float
    computed_s: float
    written_s: float
    loaded_s: float
    next_game_s: float  # of the same process: all of it

    def row(self) -> str:
        return (
            f"| {self.file} | {self.opening_tokens} of {self.prompt_tokens} | {self.kept_mb:.0f} |"
            f" {self.computed_s:.2f} | {self.written_s:.3f} | {self.loaded_s:.3f} |"
            f" {self.computed_s / self.loaded_s:.0f} | {self.next_game_s:.2f} |"
        )


@dataclass(frozen=True)
class Beginning:
    """A short beginning of `tokens`; milliseconds, medians."""

    file: str
    tokens: int
    computed_ms: float
    loaded_ms: float
    two_batches_ms: float  # more than one batch takes

    def row(self) -> str:
        return (
            f"| {self.file} | {self.tokens} | {self.computed_ms:.1f} | {self.loaded_ms:.1f} |"
            f" {self.two_batches_ms:.1f} |"
        )


def prompts(ladder: Ladder) -> tuple[list[int], list[int], int]:
    """The tokens of each game's first prompt, and how many of them are the opening."""
    template, style = ChatTemplate.of(ladder.vocab), ReactStyle()
    one, other = (
        Prompt(template, ladder.vocab, style.opening(game), shared=style.shared(game))
        for game in GAMES
    )
    assert one.opening == other.opening
    return list(one.tokens), list(other.tokens), one.opening


def measure(path: Path, folder: Path) -> Saved:
    store = OpeningStore(folder / path.stem, 10**12)
    spec = [TierSpec(path.stem, path)]
    n_ctx = default_context(spec)
    with Ladder.load(spec, n_ctx=n_ctx, openings=store) as ladder:
        first, _, opening = prompts(ladder)
        computed = openings.begin_with(ladder.tiers[0], first[:opening], store)
    with Ladder.load(spec, n_ctx=n_ctx, openings=store) as ladder:
        first, second, opening = prompts(ladder)
        loaded = ladder.prefill(first, opening=opening)
        assert loaded.load_tokens == opening
        started = time.perf_counter()
        ladder.clear(second[:opening])
        ladder.prefill(second, opening=opening)
        next_game = time.perf_counter() - started
    return Saved(
        path.stem,
        opening,
        len(first),
        store.kept().size_bytes / 1e6,
        computed.ms / 1000,
        computed.load_ms / 1000,
        loaded.load_ms / 1000,
        next_game,
    )


def beginnings(path: Path, folder: Path, repeats: int) -> Iterator[Beginning]:
    """Short openings, which the ladder itself would not keep."""
    store = OpeningStore(folder / f"{path.stem}-short", 10**12)
    spec = [TierSpec(path.stem, path)]
    with Ladder.load(spec, n_ctx=default_context(spec)) as ladder:
        tier, tokens = ladder.tiers[0], prompts(ladder)[0]

        def compute(*ends: int) -> Callable[[], None]:
            def run() -> None:
                tier.truncate(0)
                for end in ends:
                    tier.decode(tokens[len(tier.held) : end])

            return run

        def load(count: int) -> Callable[[], None]:
            def run() -> None:
                tier.truncate(0)
                assert store.load(tier, tokens[:count])

            return run

        for count in BEGINNINGS:
            if count + AFTER > len(tokens):
                break
            compute(count)()
            store.keep(tier, tokens[:count])
            alone, loaded, one, two = (
                _median_ms(work, repeats)
                for work in (
                    compute(count),
                    load(count),
                    compute(count + AFTER),
                    compute(count, count + AFTER),
                )
            )
            yield Beginning(path.stem, count, alone, loaded, two - one)


def _median_ms(work: Callable[[], None], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="GGUF")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = list[Saved | Beginning]()
    with tempfile.TemporaryDirectory() as folder:
        for path in options.files:
            short = beginnings(path, Path(folder), options.repeats)
            for one in short if options.short else [measure(path, Path(folder))]:
                print(one.row(), flush=True)
                found.append(one)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1))


if __name__ == "__main__":
    main()
