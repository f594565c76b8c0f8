"""How well each tier plays, on the real engine, and how far it is from the best one.

    python -m train.lm.evaluate --split valid_seen --json runs/lm/valid_seen.json

Every tier plays every game alone (greedy, free generation, 50 steps). Then each
step that the dearest tier wrote is put to the others: KL(dearest || tier) per
token along its text, and whether the tier would have written another text or
another action. Success comes with a Wilson 95 % interval. `--router` adds a row
for the whole ladder under a router, `--expert` one for the scripted expert, which
shows what the games allow.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edge_router.agent.episode import Options, play_episode
from edge_router.agent.events import EpisodeFinished, Event, StepFinished, TurnsDropped
from edge_router.agent.parse import parse_step
from edge_router.bench.results import write_json
from edge_router.engine.constrain import Constraint
from edge_router.engine.ladder import Ladder
from edge_router.engine.sampling import Sampler
from edge_router.engine.tier import Generation, Tier, TierSpec, common_prefix
from edge_router.models import find_ladder
from edge_router.router.parse import make_router
from edge_router.tasks.alfworld import AlfworldGame
from edge_router.tasks.base import REFUSED, Task
from edge_router.tasks.game_files import GameRef, find_games, split_games
from edge_router.tasks.household.expert import Expert, understand

Z95 = 1.959964
CONTEXT = 1024


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass
class Played:
    """One game, as one tier played it."""

    game: str
    kind: str
    won: bool
    steps: int
    refused: int
    failure: str = ""  # class of failure, "" when won


@dataclass
class Report:
    """One row of the table: a tier or the expert."""

    name: str
    games: list[Played] = field(default_factory=list)
    kl_per_token: float | None = None  # nats, KL(dearest || this)
    text_differs: float | None = None  # share of the dearest tier's steps
    action_differs: float | None = None

    @property
    def won(self) -> int:
        return sum(g.won for g in self.games)


class RecordingLadder(Ladder):
    """Remembers every prompt and what was written after it."""

    record: list[tuple[list[int], list[int]]]

    def generate(
        self,
        tier_index: int,
        sampler: Sampler,
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        constrain: Constraint | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Generation:
        prompt = list(self._prompt)
        generation = super().generate(
            tier_index,
            sampler,
            max_tokens=max_tokens,
            stop=stop,
            constrain=constrain,
            on_text=on_text,
        )
        self.record.append((prompt, list(generation.tokens)))
        return generation


# -- playing ------------------------------------------------------------------


def classify(goal: str, events: Iterable[Event]) -> str:
    """Why a game was lost."""
    wish, steps = understand(goal), []
    dropped = False
    for event in events:
        dropped = dropped or isinstance(event, TurnsDropped)
        if isinstance(event, StepFinished):
            steps.append(event)
    last = steps[-5:]
    if len(last) == 5 and len({s.action for s in last}) == 1 and last[-1].refused:
        return "refused loop"
    taken = [s.action.split()[1] for s in steps if s.action.startswith("take ") and not s.refused]
    if dropped:
        return "context overflow"
    if not taken:
        return "not found"
    return "out of steps" if wish.object in taken else "wrong object"


def play_all(ladder: Ladder, router: str, games: Sequence[GameRef], name: str) -> Report:
    """Play every game once with a router."""
    report = Report(name)
    for ref in track(games, description=f"{name:>8}", console=Console(stderr=True)):
        task, events = AlfworldGame(ref.path), list[Event]()
        end = play_episode(task, ladder, make_router(router), Options(), [events.append])
        task.close()
        report.games.append(_played(ref, end, events))
    return report


def _played(ref: GameRef, end: EpisodeFinished, events: list[Event]) -> Played:
    goal = getattr(events[0], "goal", "")
    failure = "" if end.won else classify(goal, events)
    return Played(ref.id, ref.kind, end.won, end.steps, end.refused, failure)


def expert_report(games: Sequence[GameRef], limit: int = 50) -> Report:
    """The scripted expert on the real engine."""
    report = Report("expert")
    for ref in track(games, description="  expert", console=Console(stderr=True)):
        task: Task = AlfworldGame(ref.path)
        expert, steps, refused, won = Expert(task.reset()), 0, 0, False
        while steps < limit and not won:
            action = expert.act()[1]
            reply = task.step(action)
            expert.observe(reply.observation, action)
            steps, won = steps + 1, reply.won
            refused += reply.observation == REFUSED
        task.close()
        report.games.append(Played(ref.id, ref.kind, won, steps, refused, "" if won else "expert"))
    return report


# -- distance from the dearest tier -----------------------------------------------


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def along(tier: Tier, prompt: list[int], written: list[int]) -> NDArray[np.float64]:
    """Log-probabilities (len(written) + 1, n_vocab) at every position of a step."""
    kept = min(common_prefix(tier.held, prompt), len(prompt) - 1)
    tier.truncate(kept)
    tier.decode(prompt[kept:])
    rows = [log_softmax(tier.context.logits())]
    for token in written:
        tier.decode([token])
        rows.append(log_softmax(tier.context.logits()))
    return np.stack(rows)


def greedy_text(tier: Tier, prompt: list[int], limit: int = 96) -> str:
    """What the tier itself writes after `prompt`; its cache holds the prompt already."""
    tier.truncate(len(prompt) - 1)
    tier.decode(prompt[-1:])
    written: list[int] = []
    while len(written) < limit:
        token = int(tier.context.logits().argmax())
        if tier.model.is_eog(token):
            break
        written.append(token)
        tier.decode([token])
    return tier.model.detokenize(written)


def compare(
    best: Tier, other: Tier, record: Sequence[tuple[list[int], list[int]]], report: Report
) -> None:
    """Fill in KL and the shares of differing texts and actions over the recorded steps."""
    kl, tokens, texts, actions = 0.0, 0, 0, 0
    for prompt, written in record:
        p, q = along(best, prompt, written), along(other, prompt, written)
        kl += float((np.exp(p) * (p - q)).sum())
        tokens += len(p)
        if not np.array_equal(q[: len(written)].argmax(1), written) or not other.model.is_eog(
            int(q[-1].argmax())
        ):
            texts += 1
            theirs = parse_step(greedy_text(other, prompt)).action
            actions += theirs != parse_step(best.model.detokenize(written)).action
    report.kl_per_token = kl / max(1, tokens)
    report.text_differs = texts / max(1, len(record))
    report.action_differs = actions / max(1, len(record))


# -- the whole ------------------------------------------------------------------


def evaluate(specs: Sequence[TierSpec], games: Sequence[GameRef], threads: int) -> list[Report]:
    """Every tier alone on all games; the dearest first, whose steps the others are put to."""
    reports: list[Report] = []
    record: list[tuple[list[int], list[int]]] = []
    best: Tier | None = None
    for spec in reversed(specs):
        ladder = RecordingLadder.load([spec], n_ctx=CONTEXT, n_threads=threads)
        assert isinstance(ladder, RecordingLadder)
        ladder.record = []
        reports.append(play_all(ladder, "low", games, spec.name))
        tier = ladder.tiers[0]
        if best is None:
            best, record = tier, ladder.record
        else:
            compare(best, tier, record, reports[-1])
            ladder.close()
    return reports


def routed(
    specs: Sequence[TierSpec], games: Sequence[GameRef], router: str, kv: str, threads: int
) -> Report:
    """The whole ladder under a router."""
    with Ladder.load(specs, kv=kv, n_ctx=CONTEXT, n_threads=threads) as ladder:
        return play_all(ladder, router, games, f"{router} ({kv})")


def table(reports: Sequence[Report]) -> Table:
    view = Table("tier", "won", "95 %", "steps", "refused", "KL/token", "text", "action", "lost by")
    for r in reports:
        n, steps = len(r.games), sum(g.steps for g in r.games)
        failures = Counter(g.failure for g in r.games if g.failure).most_common()
        low, high = wilson(r.won, n)
        view.add_row(
            r.name,
            f"{r.won}/{n} = {100 * r.won / n:.1f} %",
            f"{100 * low:.1f}-{100 * high:.1f}",
            f"{steps / n:.1f}",
            f"{100 * sum(g.refused for g in r.games) / max(1, steps):.1f} %",
            "" if r.kl_per_token is None else f"{r.kl_per_token:.4f}",
            "" if r.text_differs is None else f"{100 * r.text_differs:.1f} %",
            "" if r.action_differs is None else f"{100 * r.action_differs:.1f} %",
            ", ".join(f"{kind} {count}" for kind, count in failures),
        )
    return view


def by_kind(reports: Sequence[Report]) -> Table:
    kinds = sorted({g.kind for r in reports for g in r.games})
    view = Table("task type", *(r.name for r in reports))
    for kind in kinds:
        cells = []
        for r in reports:
            games = [g for g in r.games if g.kind == kind]
            cells.append(f"{sum(g.won for g in games)}/{len(games)}")
        view.add_row(kind, *cells)
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="household", help="embedded name or ladder folder")
    parser.add_argument("--tier", action="append", default=[], help="NAME=PATH, cheapest first")
    parser.add_argument("--split", default="generated")
    parser.add_argument("--games", type=Path, help="a folder of games instead of a split")
    parser.add_argument("--limit", type=int, help="only the first N games")
    parser.add_argument("--router", action="append", default=[], help="may be repeated")
    parser.add_argument("--kv", default="handoff")
    parser.add_argument("--no-tiers", action="store_true", help="only --router and --expert rows")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--expert", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    games = (find_games(args.games) if args.games else split_games(args.split))[: args.limit]
    specs: Sequence[TierSpec] = find_ladder(args.model).tiers if not args.tier else [
        TierSpec(name, Path(path)) for name, path in (t.split("=", 1) for t in args.tier)
    ]  # fmt: skip
    reports = [] if args.no_tiers else evaluate(specs, games, args.threads)
    reports += [routed(specs, games, r, args.kv, args.threads) for r in args.router]
    if args.expert:
        reports.append(expert_report(games))
    console = Console(width=160)
    console.print(table(reports))
    console.print(by_kind(reports))
    if args.json:
        write_json(args.json, [asdict(r) for r in reports])


if __name__ == "__main__":
    main()
