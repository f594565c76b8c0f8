"""The trained router against rules and chance, on prompts that nobody has tuned on.

Each row has the share of answers that are escalated, the share that come to the same as the high
tier's, and the share of the low tier's divergence that is left (see `agreement`). The rules get
thresholds that escalate the router's own share of the select prompts. Intervals are of 95 %, by
bootstrap over prompts; the row of chance is its expectation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from edge_router.errors import UserError
from edge_router.results.statistics import Estimate, ratio
from edge_router.router.feature_table import ALL_NAMES, feature
from edge_router.router.registry import RouterKind, kinds, make_router
from edge_router.router.spec import RouterSpec
from edge_router.screen.tables import Sheet
from train.router.forest import Ints, Policy, Walks, walk
from train.router.policies import FixedPolicy, RouterPolicy
from train.router.prompts.agreement import SAME, Doubles, Judge
from train.router.run import Run

DIALS = (0.25, 0.5, 0.75)
_DEFAULT = 0.5

Sums = Mapping[str, Doubles]  # of each prompt (prompts,): what its steps add up to


@dataclass(frozen=True)
class AnswerRow:
    """One policy on the test prompts; None where there is nothing to count."""

    name: str
    router: str
    share: Estimate | None  # of the answers, escalated
    same: Estimate | None  # of the answers, that come to the high tier's
    left: Estimate | None  # of the low tier's divergence
    calls: Estimate | None  # of the answers that call functions, with the high tier's calls


@dataclass(frozen=True)
class AnswerTable:
    """The rows, and in a few sentences whether there is anything to route."""

    prompts: int
    steps: int
    calls: int
    cap: float  # nats
    rows: list[AnswerRow] = field(default_factory=list)
    verdict: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        return asdict(self)

    def sheet(self) -> Sheet:
        """The table, 80 columns wide at most."""
        columns = ["router", "escalated", "same answer", "KL left"] + ["same calls"] * bool(
            self.calls
        )
        rows = [
            (row.name, *map(_cell, (row.share, row.same, row.left, row.calls)[: len(columns) - 1]))
            for row in self.rows
        ]
        title = f"{self.prompts} test prompts, {self.steps} answers, % (95 % interval)"
        return Sheet(title, tuple(columns), rows)

    def remarks(self) -> list[str]:
        """How the columns are to be read."""
        return [
            "KL left: of the low tier's KL from the high tier, summed over the answers, each "
            f"counted up to {self.cap:.3g} nats; random leaves what it does not escalate.",
        ]


def percent(share: float) -> str:
    """ "20 %"."""
    return f"{100 * share:.0f} %"


def _cell(found: Estimate | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found.value:.0f} ({100 * found.low:.0f}-{100 * found.high:.0f})"


def compare(run: Run) -> AnswerTable:
    """Every row, on the test prompts. Raises UserError where no router was exported."""
    training, select = run.training_games(), run.select_games()
    test = run.rollouts.take(run.sets.test)
    judge = Judge.of(run.rollouts.forest, training)
    file = run.folder / "router.onnx"
    if not file.is_file():
        raise UserError(f"{file} does not exist; run the stage export first")
    trained = RouterSpec.trained(file)
    share = judge.point(select, _policy(run, trained), _DEFAULT).share
    played = _Played(run, judge, test)
    low, high = played.fixed(0), played.fixed(len(run.setting.names) - 1)
    ours = {dial: played.router(trained, dial) for dial in DIALS}
    rules = {rule: played.router(rule) for rule in _rules(run, share)}
    chance = _mixed(low, high, _share(ours[_DEFAULT]))
    names = run.setting.names
    rows = [_row(f"always {names[0]}", "low", low, low)]
    rows.append(_row(f"always {names[-1]}", "high", high, low))
    rows.append(_row("random, the router's share", "random", chance, low))
    rows += [_row(f"{spec.kind}, same share", str(spec), sums, low) for spec, sums in rules.items()]
    rows += [_row(f"trained, dial {dial:g}", str(trained), s, low) for dial, s in ours.items()]
    steps, calls = int(low["steps"].sum()), int(low["calls"].sum())
    verdict = verdict_of(low, high, ours[_DEFAULT], rules, len(training))
    return AnswerTable(len(test), steps, calls, judge.cap, rows, verdict)


def _policy(run: Run, spec: RouterSpec) -> RouterPolicy:
    return RouterPolicy(partial(make_router, spec), run.setting.names, run.rollouts.forest)


def _rules(run: Run, share: float) -> list[RouterSpec]:
    """The rules with one threshold, set to escalate `share` of the select prompts' answers."""
    return [_at_share(run, kind, share) for kind in kinds() if kind.score in ALL_NAMES]


def _at_share(run: Run, kind: RouterKind, share: float) -> RouterSpec:
    rises = feature(kind.score).kind == "doubt"  # else it falls where the low tier is unsure
    values = run.statistic(kind.score)
    threshold = np.quantile(values, 1.0 - share if rises else share)
    return RouterSpec(kind.name, f"{max(0.0, float(threshold)):.6g}")


# -- sums of a policy's choices -------------------------------------------------------------------


@dataclass(frozen=True)
class _Played:
    run: Run
    judge: Judge
    games: Ints

    def fixed(self, tier: int) -> Sums:
        return self._sums(FixedPolicy(tier), _DEFAULT)

    def router(self, spec: RouterSpec, dial: float = _DEFAULT) -> Sums:
        return self._sums(_policy(self.run, spec), dial)

    def _sums(self, policy: Policy, dial: float) -> Sums:
        judge = self.judge
        walks: Walks = walk(judge.forest, self.games, policy, dials=dial)
        calls = np.broadcast_to(judge.calls[:, None], judge.same.shape)
        return {
            "steps": walks.steps.astype(np.float64),
            "escalated": ((walks.tiers > 0) & walks.taken).sum(0).astype(np.float64),
            "same": judge.total(judge.same, walks),
            "loss": judge.total(judge.loss, walks),
            "calls": judge.total(calls, walks),
            "same_calls": judge.total(judge.same & calls, walks),
        }


def _mixed(low: Sums, high: Sums, share: float) -> Sums:
    """What comes of escalating `share` of the answers by chance, on average."""
    return {key: (1 - share) * low[key] + share * high[key] for key in low}


def _share(sums: Sums) -> float:
    return float(sums["escalated"].sum() / sums["steps"].sum())


def _row(name: str, router: str, sums: Sums, low: Sums) -> AnswerRow:
    def part(top: str, bottom: Doubles) -> Estimate | None:
        return ratio(list(sums[top]), list(bottom))

    return AnswerRow(
        name,
        router,
        part("escalated", sums["steps"]),
        part("same", sums["steps"]),
        part("loss", low["loss"]),
        part("same_calls", sums["calls"]),
    )


# -- is there anything to route? ------------------------------------------------------------------


def verdict_of(
    low: Sums, high: Sums, ours: Sums, rules: Mapping[RouterSpec, Sums], learnt: int
) -> list[str]:
    steps = int(low["steps"].sum())
    if low["loss"].sum() <= SAME * steps:
        return [
            f"There is nothing to route: all {steps} test answers of the low tier are the high "
            "tier's. Play the low tier alone (--router low), or a lower one."
        ]
    share = _share(ours)
    if not 0.005 < share < 0.995:
        return [
            f"The router does the same with every prompt: {learnt} prompts taught it nothing. "
            "Give more of them, or use a rule that needs no training: --budget 0.2."
        ]
    gain = _gain(low, high, ours)
    left, chance = _left(ours, low), _left(_mixed(low, high, share), low)
    found = (
        f"with {percent(share)} escalated the router leaves {percent(left)} of the low tier's KL, "
        f"and chance {percent(chance)} (difference {100 * gain.value:.0f} points, "
        f"{100 * gain.low:.0f} to {100 * gain.high:.0f})"
    )
    if gain.low > 0:
        said = [f"There is something to route: {found}."]
    else:
        said = [
            f"That there is something to route is not shown: {found}. {learnt} prompts to learn "
            f"from and {low['steps'].size} to test on may be too few."
        ]
    return said + _of_rules(low, high, gain, rules)


def _of_rules(low: Sums, high: Sums, gain: Estimate, rules: Mapping[RouterSpec, Sums]) -> list[str]:
    """What the best rule gains over chance, where that is no less than the router does."""
    gains = {spec: _gain(low, high, sums) for spec, sums in rules.items()}
    good = [spec for spec in gains if gains[spec].value >= gain.value]
    if not good:
        return []
    best = max(good, key=lambda spec: gains[spec].value)
    share, left = _share(rules[best]), _left(rules[best], low)
    return [
        f"The rule {best} does as well without training: it leaves {percent(left)} with "
        f"{percent(share)} escalated. On any ladder: --router budget:0.2:{best}."
    ]


def _gain(low: Sums, high: Sums, sums: Sums) -> Estimate:
    """By how much of the low tier's divergence a policy does better than chance at its share."""
    chance = _mixed(low, high, _share(sums))
    found = ratio(list(chance["loss"] - sums["loss"]), list(low["loss"]))
    assert found is not None  # the low tier's divergence was seen to be something
    return found


def _left(sums: Sums, low: Sums) -> float:
    return float(sums["loss"].sum() / low["loss"].sum())
