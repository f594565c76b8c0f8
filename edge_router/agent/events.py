"""The one event stream of an episode.

The episode loop emits these in order; the plain printer, the JSON printer, the
trace writer, the TUI and the benchmarks are listeners and nothing else. Every
event is plain data: `dataclasses.asdict(event)` is what goes into a trace.

    EpisodeStarted
      ([TurnsDropped]  StepStarted  Routed  TextDecoded*  StepFinished)*  with Noted between them
    EpisodeFinished
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Final

# Where a step's model time goes, in order; `Latency` has the milliseconds of each.
STAGES: Final = ("load", "prefill", "route", "draft", "handoff", "catchup", "verify", "decode")


@dataclass(frozen=True)
class TierInfo:
    """A tier as listeners and traces know it."""

    name: str  # "q8_0"
    file: str  # file name without its folder
    fingerprint: str  # sha256 of the file
    size_bytes: int
    kv_bytes: int = 0  # memory of its KV cache; 0 is unknown


@dataclass(frozen=True)
class EpisodeStarted:
    task: str  # "alfworld"
    game: str  # the game's id
    kind: str  # the task type
    goal: str  # "put a clean apple in fridge."
    observation: str
    tiers: tuple[TierInfo, ...]  # low to high
    router: str  # the router's spec
    kv: str  # "handoff", "handoff:8", "exact"
    prompt: str  # prompt style
    seed: int
    temperature: float
    constrained: bool  # actions limited to the admissible commands
    max_steps: int
    max_score: int | None = None  # as in `tasks.protocol.Opening`


@dataclass(frozen=True)
class Noted:
    """Something that the user should know, in a sentence; the run goes on."""

    text: str


@dataclass(frozen=True)
class TurnsDropped:
    """The context was full: this many of the oldest turns after the first left the prompt."""

    step: int
    turns: int
    tokens: int


@dataclass(frozen=True)
class StepStarted:
    """The prompt of a step is ingested by the low tier."""

    step: int  # 0-based
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class Routed:
    step: int
    tier: str
    tier_index: int
    reason: str
    probability: float | None
    features: dict[str, float]
    score: float | None = None  # these three as in `router.base.Decision`
    thresholds: tuple[float, ...] = ()
    forced: bool = False
    decide_at: str = "prompt"  # or "draft": the low tier had drafted the step
    draft: str = ""  # that text; a higher tier, if chosen, verifies it


@dataclass(frozen=True)
class TextDecoded:
    """A piece of the step's text, as it is decoded (valid UTF-8, may be several tokens)."""

    step: int
    text: str


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one step, by stage, with the tokens behind them."""

    prefill_ms: float = 0.0  # the low tier ingests what is new
    route_ms: float = 0.0  # features and decision
    handoff_ms: float = 0.0  # KV moved to the chosen tier
    catchup_ms: float = 0.0  # tokens the chosen tier prefilled itself (handoff:N, exact)
    decode_ms: float = 0.0
    env_ms: float = 0.0  # the environment's own time
    prefill_tokens: int = 0
    handoff_tokens: int = 0
    catchup_tokens: int = 0
    decode_tokens: int = 0
    draft_ms: float = 0.0  # all that went before the chosen tier's part: draft and passes
    draft_tokens: int = 0  # decoded by the low tier
    load_ms: float = 0.0  # the prompt's opening: its KV read from the disk, or written there
    load_tokens: int = 0  # found there, and so not computed
    verify_ms: float = 0.0  # the chosen tier reads and compares the draft
    verify_tokens: int = 0  # that it read for it in batches, the prompt's last ones among them
    verify_batches: int = 0
    drafted: int = 0  # tokens of drafts that were verified, a token that ends the text among them
    accepted: int = 0  # those that the chosen tier kept
    rewritten: int = 0  # tokens that it chose itself in steps that it verified
    lookup_tokens: int = 0  # guessed by looking them up in the text, and read by whoever wrote
    lookup_accepted: int = 0  # those that became text

    @property
    def model_ms(self) -> float:
        """Everything but the environment."""
        prompt = self.load_ms + self.prefill_ms + self.route_ms + self.handoff_ms + self.catchup_ms
        return prompt + self.draft_ms + self.verify_ms + self.decode_ms

    @property
    def tokens_per_second(self) -> float:
        """Speed of the tier that wrote, verifying or decoding; 0 when it did neither.

        Of the sum over an episode: tokens decoded or accepted in the time that took.
        """
        ms = self.verify_ms + self.decode_ms
        return 1000.0 * (self.decode_tokens + self.accepted) / ms if ms > 0 else 0.0

    @property
    def acceptance(self) -> float | None:
        """The share of the verified tokens that was accepted; None where none was verified."""
        return self.accepted / self.drafted if self.drafted else None


def total(latencies: Iterable[Latency]) -> Latency:
    """Every field summed."""
    known = list(latencies)
    return Latency(**{f.name: sum(getattr(x, f.name) for x in known) for f in fields(Latency)})


@dataclass(frozen=True)
class DraftPass:
    """What a tier between the low and the chosen one made of a draft: it verified it, too.

    `latency` has its handoff, catch-up, verification and decoding; a step's own `Latency` counts
    their milliseconds as `draft_ms`.
    """

    tier: str
    tier_index: int
    latency: Latency


@dataclass(frozen=True)
class StepFinished:
    step: int
    tier: str
    tier_index: int
    text: str  # what the model wrote, as it stands
    thought: str
    action: str
    observation: str  # the environment's reply
    refused: bool  # the reply said that the command was not possible
    done: bool
    won: bool
    latency: Latency
    draft_action: str | None = None  # the command of the low tier's draft; None: it wrote none
    score: int | None = None  # so far; None: the game counts none
    passes: tuple[DraftPass, ...] = ()  # low to high

    @property
    def changed(self) -> bool | None:
        """Whether a higher tier gave another command than the draft; None where nobody knows."""
        if self.tier_index == 0 or self.draft_action is None:
            return None
        return self.action != self.draft_action


@dataclass(frozen=True)
class Escalations:
    """How many steps a higher tier wrote, and what came of it."""

    steps: int = 0
    compared: int = 0  # those of them for which the low tier's draft is known
    changed: int = 0  # those of `compared` in which the command is another than the draft's


@dataclass(frozen=True)
class EpisodeFinished:
    won: bool
    steps: int
    reason: str  # "won", "lost", "out of steps", "interrupted"
    steps_by_tier: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    latency: Latency = field(default_factory=Latency)  # summed over the steps
    escalations: Escalations = field(default_factory=Escalations)
    score: int | None = None  # in the end, where the game counts one
    max_score: int | None = None
    passes: tuple[DraftPass, ...] = ()  # summed over the steps, one a tier


def score_text(score: int | None, most: int | None) -> str:
    """ "score 3 of 8", "score 3" where there is no highest one, "" where none is counted."""
    if score is None:
        return ""
    return f"score {score}" if most is None else f"score {score} of {most}"


Event = (
    EpisodeStarted
    | Noted
    | TurnsDropped
    | StepStarted
    | Routed
    | TextDecoded
    | StepFinished
    | EpisodeFinished
)
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class StepEvents:
    """All events of one step; its text is in `finished`."""

    started: StepStarted
    routed: Routed
    finished: StepFinished
    dropped: TurnsDropped | None = None


class StepCollector:
    """Feed it every event; it returns a step when the step is finished."""

    def __init__(self) -> None:
        self._started: StepStarted | None = None
        self._routed: Routed | None = None
        self._dropped: TurnsDropped | None = None

    def __call__(self, event: Event) -> StepEvents | None:
        if isinstance(event, EpisodeStarted):
            self._started = self._routed = self._dropped = None
        elif isinstance(event, StepStarted):
            self._started = event
        elif isinstance(event, Routed):
            self._routed = event
        elif isinstance(event, TurnsDropped):
            self._dropped = event
        elif isinstance(event, StepFinished):
            return self._finish(event)
        return None

    def _finish(self, finished: StepFinished) -> StepEvents:
        if self._started is None or self._routed is None:
            raise ValueError(f"step {finished.step} was finished but never started and routed")
        step = StepEvents(self._started, self._routed, finished, self._dropped)
        self._started = self._routed = self._dropped = None
        return step
