"""What a benchmark keeps of an episode: outcome, and each step's tier and work in tokens.

Costs are not kept but computed from the tokens, so that one run can be costed by any profile,
that of this machine or that of a larger model's shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from edge_router.agent.events import (
    STAGES,
    DraftPass,
    EpisodeFinished,
    EpisodeStarted,
    Event,
    StepFinished,
    StepStarted,
    TurnsDropped,
)
from edge_router.ladders.costs import CostProfile, StepTokens
from edge_router.tasks.registry import find_task


@dataclass(frozen=True)
class PassRecord:
    """A tier's work on a draft before the chosen tier verified it, in tokens."""

    tier: str
    handoff: int
    catchup: int
    decode: int
    verify: int
    verify_batches: int
    drafted: int
    accepted: int
    rewritten: int


@dataclass(frozen=True)
class StepRecord:
    """One step: who wrote it, the work in tokens, the model's milliseconds as measured."""

    tier: str
    refused: bool
    ms: float
    prompt: int  # length of the prompt
    prefill: int
    handoff: int
    catchup: int
    decode: int
    draft: int = 0
    action: str = ""  # "" in older records
    verify: int = 0  # these five as in `Latency`
    verify_batches: int = 0
    drafted: int = 0
    accepted: int = 0
    rewritten: int = 0
    passes: tuple[PassRecord, ...] = ()  # low to high

    @property
    def tokens(self) -> StepTokens:
        return StepTokens(
            *(self.prefill, self.handoff, self.catchup, self.decode, self.prompt),
            *(self.draft, self.verify, self.verify_batches),
        )

    def seconds(self, profile: CostProfile, reader: str | None) -> float:
        """What the step costs by a profile; `reader` is the tier that read the prompt."""
        total = profile.step_seconds(self.tier, self.tokens, reader=reader)
        for one in self.passes:
            work = StepTokens(
                *(0, one.handoff, one.catchup, one.decode, self.prompt),
                *(0, one.verify, one.verify_batches),
            )
            total += profile.step_seconds(one.tier, work, reader=reader)
        return total


@dataclass(frozen=True)
class GameRecord:
    """One game, played once."""

    game: str
    kind: str
    won: bool
    reason: str  # as in EpisodeFinished; "crashed" when the engine failed
    failure: str = ""  # class of failure, "" when won
    reader: str = ""  # the tier that reads every prompt, "" where no model plays
    steps: tuple[StepRecord, ...] = ()
    seed: int = 0
    stage_ms: dict[str, float] = field(default_factory=dict)  # measured, summed over the steps
    crash: str = ""  # what the engine said when it failed
    wall_s: float = 0.0  # of the whole episode, the environment's time too; 0 in older records
    jobs: int = 1  # games that were played at once, for reading the measured seconds
    threads: int = 0
    cpu: str = ""
    score: int | None = None  # in the end; None where the game counts none, or in older records
    max_score: int | None = None

    @property
    def share_of_score(self) -> float | None:
        """The score as a share of the highest one, 0 to 1; None where there is none."""
        if self.score is None or not self.max_score:
            return None
        return min(1.0, max(0.0, self.score / self.max_score))

    @cached_property
    def measured_seconds(self) -> float:
        """The model's own time (prefill, routing, handoff, decode), the environment's not."""
        return sum(s.ms for s in self.steps) / 1000.0

    def seconds(self, profile: CostProfile) -> float:
        """What the same steps cost by a profile; the router's own time is not in it."""
        return sum(s.seconds(profile, self.reader or None) for s in self.steps)

    @property
    def refused(self) -> int:
        return sum(s.refused for s in self.steps)

    @property
    def actions(self) -> tuple[str, ...]:
        return tuple(s.action for s in self.steps)


@dataclass
class Recorder:
    """A listener that makes the record of one episode."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def record(self, game: str, kind: str, reader: str, seed: int) -> GameRecord:
        """The record of the episode that was heard. Raises ValueError when it has no end."""
        end = self.events[-1] if self.events else None
        if not isinstance(end, EpisodeFinished):
            raise ValueError("the episode has not ended")
        failure = "" if end.won else classify(self.events, end)
        stages = {stage: round(getattr(end.latency, f"{stage}_ms"), 3) for stage in STAGES}
        steps = tuple(self._steps())
        return GameRecord(
            *(game, kind, end.won, end.reason, failure, reader, steps, seed, stages),
            score=end.score,
            max_score=end.max_score,
        )

    def _steps(self) -> list[StepRecord]:
        prompts = {e.step: e.prompt_tokens for e in self.events if isinstance(e, StepStarted)}
        return [
            _step(e, prompts.get(e.step, 0)) for e in self.events if isinstance(e, StepFinished)
        ]


def _step(event: StepFinished, prompt: int) -> StepRecord:
    work = event.latency
    return StepRecord(
        tier=event.tier,
        refused=event.refused,
        ms=round(work.model_ms, 3),
        prompt=prompt,
        prefill=work.prefill_tokens,
        handoff=work.handoff_tokens,
        catchup=work.catchup_tokens,
        decode=work.decode_tokens,
        draft=work.draft_tokens,
        action=event.action,
        verify=work.verify_tokens,
        verify_batches=work.verify_batches,
        drafted=work.drafted,
        accepted=work.accepted,
        rewritten=work.rewritten,
        passes=tuple(map(_pass, event.passes)),
    )


def _pass(one: DraftPass) -> PassRecord:
    work = one.latency
    return PassRecord(
        *(one.tier, work.handoff_tokens, work.catchup_tokens, work.decode_tokens),
        *(work.verify_tokens, work.verify_batches, work.drafted, work.accepted, work.rewritten),
    )


# -- why a game was lost -------------------------------------------------------------------------

LOST: Final = "lost"  # the game ended without being won
_LOOP: Final = 5  # the last steps of a refused loop are this many times the same


def classify(events: Iterable[Event], end: EpisodeFinished) -> str:
    """The class of a lost episode: what any game can be lost by, else what its task says."""
    if end.reason == "lost":
        return LOST
    task, goal, steps, dropped = "", "", list[tuple[str, bool]](), False
    for event in events:
        if isinstance(event, EpisodeStarted):
            task, goal = event.task, event.goal
        elif isinstance(event, StepFinished):
            steps.append((event.action, event.refused))
        dropped = dropped or isinstance(event, TurnsDropped)
    return classify_steps(task, goal, steps, dropped=dropped)


def classify_steps(
    task: str, goal: str, steps: Sequence[tuple[str, bool]], *, dropped: bool = False
) -> str:
    """The class of a lost episode by its steps: each one's action, and whether it was refused.

    `dropped`: turns of the history were left out, as the context was full.
    """
    last = steps[-_LOOP:]
    if len(last) == _LOOP and len({action for action, _ in last}) == 1 and last[-1][1]:
        return "refused loop"
    if dropped:
        return "context overflow"
    return find_task(task).why_lost(goal, [action for action, refused in steps if not refused])
