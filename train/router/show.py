"""The table of policies as a person reads it: on a terminal, and in Markdown for a model's card."""

from __future__ import annotations

from collections.abc import Sequence

from edge_router.results.statistics import wilson
from edge_router.screen.tables import Sheet
from train.router.table import PolicyResult

HEADINGS = (
    *("policy", "won", "95 %", "escalated", "steps", "tokens", "against high"),
    "router against it",
)


def default_row(rows: Sequence[PolicyResult]) -> PolicyResult:
    """The trained router at the dial that users start with."""
    trained = [r for r in rows if r.dial == 0.5 and r.name.startswith("SFT + GRPO")]
    return trained[0]


def sheet(rows: Sequence[PolicyResult], title: str, profiles: Sequence[str]) -> Sheet:
    """The comparison; `profiles` names the cost profiles whose seconds are shown."""
    high, ours = next(r for r in rows if r.spec == "high"), default_row(rows)
    cells = [(row.name, *_figures(row, high, ours, profiles)) for row in rows]
    return Sheet(title, (*HEADINGS, *(f"s/game {name}" for name in profiles)), cells)


def _figures(
    row: PolicyResult, high: PolicyResult, ours: PolicyResult, profiles: Sequence[str]
) -> list[str]:
    low, top = wilson(sum(row.won), len(row.won))
    return [
        f"{100 * row.success:.1f} %",
        f"{100 * low:.1f}-{100 * top:.1f}",
        f"{100 * row.share:.1f} %",
        f"{sum(row.steps) / len(row.steps):.1f}",
        f"{row.tokens / len(row.won):.0f}",
        _pair(row.against(high)) if row is not high else "",
        _pair(ours.against(row)) if row is not ours else "",
        *(f"{row.seconds[n]:.2f}" if n in row.seconds else "" for n in profiles),
    ]


def _pair(test: tuple[int, int, float]) -> str:
    more, fewer, p = test
    return f"+{more} -{fewer} p {p:.2g}"
