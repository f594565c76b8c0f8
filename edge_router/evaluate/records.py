"""What a benchmark keeps of an episode: outcome, and each step's tier and work in tokens.

Costs are not kept but computed from the tokens, so that one run can be costed by any profile,
that of this machine or that of a larger model's shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from edge_router.agent.events import STAGES, EpisodeFinished, Event, StepFinished, StepStarted
from edge_router.evaluate.failures import classify
from edge_router.ladders.costs import CostProfile, StepTokens


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

    @property
    def tokens(self) -> StepTokens:
        return StepTokens(
            self.prefill, self.handoff, self.catchup, self.decode, self.prompt, self.draft
        )


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
    jobs: int = 1  # games that were played at once, for reading the measured seconds
    threads: int = 0
    cpu: str = ""

    @cached_property
    def measured_seconds(self) -> float:
        """The model's own time (prefill, routing, handoff, decode), the environment's not."""
        return sum(s.ms for s in self.steps) / 1000.0

    def seconds(self, profile: CostProfile) -> float:
        """What the same steps cost by a profile; the router's own time is not in it."""
        return sum(
            profile.step_seconds(s.tier, s.tokens, reader=self.reader or None) for s in self.steps
        )

    @property
    def refused(self) -> int:
        return sum(s.refused for s in self.steps)


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
        failure = "" if end.won else classify(self.events)
        stages = {stage: round(getattr(end.latency, f"{stage}_ms"), 3) for stage in STAGES}
        steps = tuple(self._steps())
        return GameRecord(game, kind, end.won, end.reason, failure, reader, steps, seed, stages)

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
    )
