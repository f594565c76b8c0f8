"""Notice that tokens come far slower than they could: other programs want the cores.

What a step took is compared with the quickest step of the same tier in this run, and with what
`edge-router calibrate` measured on this machine where it did. One slow step means nothing; some
in a row that cost a second or more are reported, once a run.

    watch = SpeedWatch(profile_of("household"))
    for event in events:
        if sentence := watch(event): print(sentence)
"""

from __future__ import annotations

from typing import Final

from edge_router.agent.events import EpisodeStarted, Event, StepFinished, StepStarted
from edge_router.errors import UserError
from edge_router.ladders.costs import CostProfile, find_profile

FACTOR: Final = 4.0  # times slower than it could be is far slower
IN_A_ROW: Final = 3  # steps
LOST_MS: Final = 1000.0  # in those steps; less is not worth a sentence


def sentence(times: float) -> str:
    """The sentence, with how many times slower the tokens come."""
    return f"Tokens come {times:.0f} times slower than before: other programs want the cores."


class SpeedWatch:
    """Hears the events of a run; returns the sentence when it is due, else ""."""

    def __init__(self, profile: CostProfile | None = None) -> None:
        self._profile = profile
        self._begin(())

    def __call__(self, event: Event) -> str:
        if isinstance(event, EpisodeStarted):
            self._begin(tuple((tier.name, tier.size_bytes) for tier in event.tiers))
        elif isinstance(event, StepStarted):
            self._prompt_tokens = event.prompt_tokens
        elif isinstance(event, StepFinished) and event.latency.decode_tokens and not self.note:
            self._hear(event)
            return self.note
        return ""

    def _begin(self, tiers: tuple[tuple[str, int], ...]) -> None:
        self.note = ""
        self._best: dict[str, float] = {}  # milliseconds a token, by tier
        self._slow: list[tuple[float, float]] = []  # (took, could take) of the steps in a row
        self._prompt_tokens = 0
        known = self._profile.tiers if self._profile else ()
        self._known = tiers == tuple((tier.name, tier.size_bytes) for tier in known)

    def _hear(self, event: StepFinished) -> None:
        took = event.latency.decode_ms
        could = self._could_take(event)
        each = took / event.latency.decode_tokens
        self._best[event.tier] = min(each, self._best.get(event.tier, each))
        if took <= FACTOR * could:
            self._slow.clear()
            return
        self._slow.append((took, could))
        all_took, all_could = (sum(times) for times in zip(*self._slow, strict=True))
        if len(self._slow) >= IN_A_ROW and all_took - all_could >= LOST_MS:
            self.note = sentence(all_took / all_could)

    def _could_take(self, event: StepFinished) -> float:
        """Milliseconds, by the best that is known of the tier."""
        tokens = event.latency.decode_tokens
        best = tokens * self._best.get(event.tier, float("inf"))
        if self._profile is None or not self._known:
            return best
        return min(
            best, 1000.0 * self._profile.tier(event.tier).decode(tokens, self._prompt_tokens)
        )


def profile_of(model: str) -> CostProfile | None:
    """What calibrate measured here for a model; None where nobody did, or it cannot be read."""
    try:
        return find_profile(model) if model else None
    except UserError:
        return None
