"""Played rows as the numbers of a table, every one with its interval, in plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np

from edge_router.agent.events import STAGES
from edge_router.evaluate.jobs import EXPERT
from edge_router.evaluate.policies import Outcome, PlayedRow
from edge_router.evaluate.records import GameRecord, PassRecord, StepRecord
from edge_router.evaluate.rows import HIGH, Row
from edge_router.ladders.costs import CostProfile
from edge_router.results.statistics import Estimate, mean, paired, ratio, share


def summaries(
    played: Sequence[PlayedRow],
    tiers: Sequence[str],
    profile: CostProfile | None,
    *,
    reference: PlayedRow | None = None,
    router: PlayedRow | None = None,
    profiles: Mapping[str, CostProfile] | None = None,
) -> list[dict[str, Any]]:
    """One object a row; compared with `reference`, or with `high` under the same KV mode.

    `router` is the row of a router that is held against all the others, `profiles` are costs by
    name, for more estimates of the seconds; without them the rows have no such columns.
    """
    rows = [_summary(row, reference or _reference(row, played), tiers, profile) for row in played]
    for row, its in zip(rows, played, strict=True):
        if router is not None:
            row["against_router"] = _compared(its, router)
        if profiles:
            row["seconds"] = {
                name: _plain(mean([o.seconds(costs) for o in its.outcomes]))
                for name, costs in profiles.items()
            }
    return rows


def _reference(row: PlayedRow, played: Sequence[PlayedRow]) -> PlayedRow | None:
    high = [p for p in played if (p.row.how, p.row.router) == ("play", HIGH)]
    same = [p for p in high if p.row.kv == row.row.kv]
    return next(iter(same or high), None)


def _summary(
    played: PlayedRow,
    reference: PlayedRow | None,
    tiers: Sequence[str],
    profile: CostProfile | None,
) -> dict[str, Any]:
    outcomes, row = played.outcomes, played.row
    won = [o.won for o in outcomes]
    records = [a for o in outcomes for a in o.attempts]
    return {
        "row": row.label,
        **row.plain(),
        "games": len(outcomes),
        "won": sum(won),
        "each": [int(w) for w in won],  # in the order of the settings' game_ids
        "success": asdict(share(sum(won), len(won))),
        "against_high": _compared(played, reference),
        "share": _shares(outcomes, tiers),
        "score": _score(outcomes),
        "steps": _mean(outcomes, lambda a: len(a.steps)),
        "refused": _refused(outcomes),
        **_costs(row, outcomes, profile),
        "wall_s": _wall(outcomes),
        **_beside(played, reference),
        **_verified(outcomes),
        "verified_by": _verified_by(outcomes, tiers),
        "attempts": _plain(mean([len(o.attempts) for o in outcomes])),
        "failures": dict(Counter(o.last.failure for o in outcomes if not o.won).most_common()),
        "crashed": sum(bool(o.last.crash) for o in outcomes),
        "crashes": sorted({f"{a.game}: {a.crash}" for a in records if a.crash}),
        "by_kind": _by_kind(outcomes),
        "by_step": _by_step(records, tiers),
        "stage_s": {s: _stage_seconds(outcomes, s) for s in STAGES},
        "measured_with": sorted({(a.jobs, a.threads) for a in records}),
        "measured_on": sorted({a.cpu for a in records if a.cpu}),
        "note": played.note,
    }


def _compared(played: PlayedRow, reference: PlayedRow | None) -> dict[str, Any] | None:
    if reference is None or reference is played:
        return None
    found = paired([o.won for o in played.outcomes], [o.won for o in reference.outcomes])
    return asdict(found)


def _wall(outcomes: Sequence[Outcome]) -> dict[str, float] | None:
    """Median and quartiles of a game's seconds, the environment's too; None if untimed."""
    times = [o.wall_s for o in outcomes]
    if not times or not all(times):
        return None
    low, middle, high = np.percentile(times, [25, 50, 75])
    return {"median": float(middle), "q1": float(low), "q3": float(high), "mean": fmean(times)}


def _beside(played: PlayedRow, reference: PlayedRow | None) -> dict[str, Any]:
    """How many times the reference's seconds, over all games, and how often its very actions."""
    outcomes = played.outcomes
    others = reference.outcomes if reference and reference is not played else ()
    timed = bool(others) and all(o.wall_s for o in (*outcomes, *others))
    acted = bool(others) and all(any(o.actions) for o in (*outcomes, *others))
    same = [a.actions == b.actions for a, b in zip(outcomes, others, strict=False)]
    return {
        "times_as_fast": _plain(ratio([o.wall_s for o in others], [o.wall_s for o in outcomes]))
        if timed
        else None,
        "same_actions": asdict(share(sum(same), len(same))) if acted else None,
    }


def _score(outcomes: Sequence[Outcome]) -> Any:
    """Mean share of the highest score; None where a game counts none."""
    shares = [o.last.share_of_score for o in outcomes]
    known = [share for share in shares if share is not None]
    return _plain(mean(known)) if known and len(known) == len(shares) else None


def _refused(outcomes: Sequence[Outcome]) -> Any:
    """Share of the steps whose command was refused."""
    refused = [_sum(o, lambda a: a.refused) for o in outcomes]
    return _plain(ratio(refused, [_sum(o, lambda a: len(a.steps)) for o in outcomes]))


def _shares(outcomes: Sequence[Outcome], tiers: Sequence[str]) -> dict[str, Any]:
    """Each tier's share of the steps."""
    steps = [_sum(o, lambda a: len(a.steps)) for o in outcomes]
    of: dict[str, Any] = {}
    for tier in tiers:
        wrote = [sum(s.tier == tier for a in o.attempts for s in a.steps) for o in outcomes]
        of[tier] = _plain(ratio(wrote, steps))
    return of


def _costs(row: Row, outcomes: Sequence[Outcome], profile: CostProfile | None) -> dict[str, Any]:
    """Tokens and seconds a game; nothing for the expert, who uses no model.

    Where no step was timed, as in rollouts, there are no measured seconds.
    """
    if row.how == EXPERT:
        return dict.fromkeys(("decoded_tokens", "prefilled_tokens", "measured_s", "estimated_s"))
    estimated = mean([o.seconds(profile) for o in outcomes]) if profile else None
    timed = any(o.measured_seconds for o in outcomes)
    return {
        "decoded_tokens": _steps_mean(outcomes, _decoded),
        "prefilled_tokens": _steps_mean(outcomes, _prefilled),
        "measured_s": _plain(mean([o.measured_seconds for o in outcomes])) if timed else None,
        "estimated_s": _plain(estimated),
    }


def _decoded(step: StepRecord) -> int:
    """Tokens that were decoded, whichever tier did."""
    return step.decode + step.draft + sum(one.decode for one in step.passes)


def _prefilled(step: StepRecord) -> int:
    return step.prefill + step.catchup + sum(one.catchup for one in step.passes)


def _verified(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Tokens a game that were drafted for a higher tier, and what it accepted and rewrote."""
    drafted, accepted = (
        [_sum(o, lambda a: sum(getattr(s, name) for s in a.steps)) for o in outcomes]  # noqa: B023
        for name in ("drafted", "accepted")
    )
    return {
        "drafted_tokens": _plain(mean(drafted)),
        "accepted_tokens": _plain(mean(accepted)),
        "rewritten_tokens": _steps_mean(outcomes, lambda s: s.rewritten),
        "acceptance": _plain(ratio(accepted, drafted)),
    }


def _verified_by(outcomes: Sequence[Outcome], tiers: Sequence[str]) -> dict[str, Any]:
    """Tokens a game that each tier verified, accepted and rewrote; tiers that verified none lack.

    The chosen tiers' are among them, and those of tiers that a draft passed before.
    """
    parts = [list(_verifications(outcome)) for outcome in outcomes]

    def per_game(tier: str, name: str) -> list[int]:
        return [sum(getattr(part, name) for part in game if part.tier == tier) for game in parts]

    found: dict[str, Any] = {}
    for tier in tiers:
        drafted, accepted = (per_game(tier, name) for name in ("drafted", "accepted"))
        if any(drafted):
            found[tier] = {
                "drafted_tokens": _plain(mean(drafted)),
                "accepted_tokens": _plain(mean(accepted)),
                "rewritten_tokens": _plain(mean(per_game(tier, "rewritten"))),
                "acceptance": _plain(ratio(accepted, drafted)),
            }
    return found


def _verifications(outcome: Outcome) -> Iterator[StepRecord | PassRecord]:
    """Every place where a tier may have verified a draft: the steps, and the passes before."""
    for attempt in outcome.attempts:
        for step in attempt.steps:
            yield step
            yield from step.passes


def _stage_seconds(outcomes: Sequence[Outcome], stage: str) -> float:
    """Measured seconds a game of one stage."""
    total = sum(a.stage_ms.get(stage, 0.0) for o in outcomes for a in o.attempts)
    return total / 1000.0 / max(1, len(outcomes))


def _by_kind(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    kinds = sorted({o.last.kind for o in outcomes})
    of_kind = {kind: [o.won for o in outcomes if o.last.kind == kind] for kind in kinds}
    return {
        kind: {"won": sum(won), "games": len(won), **asdict(share(sum(won), len(won)))}
        for kind, won in of_kind.items()
    }


def _by_step(records: Sequence[GameRecord], tiers: Sequence[str]) -> dict[str, list[int]]:
    """For each tier: how many games it wrote step 0, step 1, ... of."""
    longest = max((len(r.steps) for r in records), default=0)
    counts = {tier: [0] * longest for tier in tiers}
    for record in records:
        for i, step in enumerate(record.steps):
            if step.tier in counts:
                counts[step.tier][i] += 1
    return counts


def _sum(outcome: Outcome, of: Callable[[GameRecord], int]) -> int:
    return sum(of(a) for a in outcome.attempts)


def _mean(outcomes: Sequence[Outcome], of: Callable[[GameRecord], int]) -> Any:
    return _plain(mean([_sum(o, of) for o in outcomes]))


def _steps_mean(outcomes: Sequence[Outcome], of: Callable[[StepRecord], int]) -> Any:
    return _mean(outcomes, lambda a: sum(map(of, a.steps)))


def _plain(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else asdict(estimate)
