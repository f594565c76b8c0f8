"""A made-up episode as events, for the listeners' tests; three tiers, a dropped turn, a refusal."""

from __future__ import annotations

from collections.abc import Iterable

from edge_router.agent.events import (
    EpisodeFinished,
    EpisodeStarted,
    Event,
    Latency,
    Listener,
    Routed,
    StepFinished,
    StepStarted,
    TextDecoded,
    TierInfo,
    TurnsDropped,
)
from edge_router.tasks.parse import parse_step

TIERS = ("q3_k_m", "q4_k_m", "q8_0")
STARTED = EpisodeStarted(
    task="alfworld",
    game="pick_and_place_simple-Pen-None-Desk-1/trial_1",
    kind="pick_and_place_simple",
    goal="put some pen on desk.",
    observation="You are in the middle of a room. You see a desk 1, and a bed 1.",
    tiers=tuple(TierInfo(name, f"{name}.gguf", "0" * 64, 2_100_000) for name in TIERS),
    router="entropy:0.8",
    kv="handoff",
    prompt="household",
    seed=7,
    temperature=0.0,
    constrained=False,
    max_steps=50,
)


def step_events(
    step: int,
    text: str,
    action: str,
    *,
    tier: int = 0,
    pieces: Iterable[str] | None = None,
    observation: str = "You arrive at desk 1. On the desk 1, you see a pen 2.",
    dropped: int = 0,
    won: bool = False,
    draft: str | None = None,
) -> list[Event]:
    """The events of one step, its text in the given pieces; `draft`: what the low tier drafted."""
    latency = Latency(
        12.345678901, 0.0987, 1.5 * tier, 0.7 * tier, 45.1, 52.0, 85, 84 * tier, tier, 18
    )
    events: list[Event] = [TurnsDropped(step, dropped, 40)] if dropped else []
    events += [
        StepStarted(step, 200 + step, 85),
        Routed(
            *(step, TIERS[tier], tier, "entropy 1.32 >= 0.8", None, {"entropy": 0.1 + 0.2}),
            decide_at="prompt" if draft is None else "draft",
            draft=draft or "",
        ),
        *(TextDecoded(step, piece) for piece in (text if pieces is None else pieces)),
        StepFinished(
            step=step,
            tier=TIERS[tier],
            tier_index=tier,
            text=text,
            thought="",
            action=action,
            observation=observation,
            refused=observation == "Nothing happens.",
            done=won,
            won=won,
            latency=latency,
            draft_action=None if draft is None else parse_step(draft).action,
        ),
    ]
    return events


FINISHED = EpisodeFinished(
    won=True,
    steps=3,
    reason="won",
    steps_by_tier={"q3_k_m": 2, "q4_k_m": 0, "q8_0": 1},
    refused=1,
    latency=Latency(36.0, 0.3, 3.0, 1.4, 135.3, 156.0, 255, 168, 2, 54),
)
EPISODE: tuple[Event, ...] = (
    STARTED,
    *step_events(0, " plan: desk 1 bed 1\n> go to desk 1", "go to desk 1", tier=2),
    *step_events(1, "häh?", "häh?", observation="Nothing happens."),
    *step_events(2, " see pen 2\n> take pen 2 from desk 1", "take pen 2 from desk 1", dropped=1,
                 won=True),
    FINISHED,
)  # fmt: skip


def tell(listener: Listener, events: Iterable[Event]) -> None:
    """Let `listener` hear `events`."""
    for event in events:
        listener(event)
