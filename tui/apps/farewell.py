"""What is left on the terminal when the app has gone: the result, and where the traces are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_router.agent.escalation import summary
from edge_router.agent.listeners.printer import outcome
from tui.state.episode import Episode


def farewell(episode: Episode, won: int, played: int, traces: Sequence[Path]) -> list[str]:
    """The last game's result and each tier's share, how many games were won, the traces."""
    lines = []
    if episode.started is not None and episode.finished is not None:
        lines.append(f"{episode.started.goal} {_how(episode)}")
    if played > 1:
        lines.append(f"{won} of {played} games won")
    return lines + [f"trace: {path}" for path in traces if path.exists()]


def _how(episode: Episode) -> str:
    assert episode.finished is not None
    steps = [step.tier_index for step in episode.done_steps]
    shares = [
        f"{name} {100 * steps.count(tier) / len(steps):.0f} %"
        for tier, name in enumerate(episode.tiers)
        if steps
    ]
    parts = [outcome(episode.finished), ", ".join(shares), summary(episode.finished.escalations)]
    return "; ".join(filter(None, parts))
