"""The episode loop: the road of one step, from observation to observation.

    prompt -> prefill on the low tier -> features -> router -> tier
      -> handoff, decode -> thought + action -> environment -> next prompt

A router that decides at the draft is asked later: the low tier drafts the step,
and a higher tier verifies it where the router does not keep the draft.

It emits events (`agent.events`) and prints nothing; whoever wants to show,
record or count something listens.

    play_episode(game, ladder, router, Options(), [PlainPrinter(...)])
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_router.agent.escalation import count, passes_by_tier
from edge_router.agent.events import (
    EpisodeFinished,
    EpisodeStarted,
    Event,
    Listener,
    Noted,
    StepFinished,
    TierInfo,
    TurnsDropped,
    total,
)
from edge_router.agent.history import History, Past
from edge_router.agent.prompt import Prompt, make_room
from edge_router.agent.step_writer import Escalate, StepWriter
from edge_router.agent.template import ChatTemplate
from edge_router.engine.clock import ms_since
from edge_router.engine.constrain import Choices
from edge_router.engine.ladder import Ladder
from edge_router.engine.sampling import Sampler
from edge_router.engine.tier import Generation
from edge_router.errors import UserError
from edge_router.router.base import Router
from edge_router.router.rules import NEUTRAL
from edge_router.tasks.parse import MARKER
from edge_router.tasks.protocol import Game, Opening, PromptStyle, Task
from edge_router.tasks.registry import find_task, style_for
from edge_router.work.processes import interrupts_held


@dataclass(frozen=True)
class Options:
    """How an episode is played."""

    max_steps: int = 50
    seed: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    dial: float | Callable[[], float] = NEUTRAL  # a function is asked before every step
    constrain: bool = False
    prompt: str = ""  # the prompt style; "" is what the GGUF says
    escalate: Escalate = "verify"  # "rewrite" only to compare with
    lookup: int = 0  # tokens guessed at a time from the text itself; 0: none
    fingerprints: bool = True  # tell the files' SHA-256, which takes a second per gigabyte


def play_episode(
    game: Game,
    ladder: Ladder,
    router: Router,
    options: Options,
    listeners: Sequence[Listener],
) -> EpisodeFinished:
    """Play one episode to its end; Ctrl-C ends it cleanly (reason "interrupted").

    Before the episode has started Ctrl-C raises KeyboardInterrupt, as anywhere.

    Raises `UserError` when the game cannot be started or its prompt does not
    fit the context.
    """
    return _Episode(game, ladder, router, options, listeners).play()


class _Episode:
    """What one episode accumulates."""

    def __init__(
        self,
        game: Game,
        ladder: Ladder,
        router: Router,
        options: Options,
        listeners: Sequence[Listener],
    ) -> None:
        self.game, self.ladder, self.router, self.options = game, ladder, router, options
        self.task: Task = find_task(game.task)
        self.listeners = listeners
        self.style: PromptStyle = style_for(self.task, ladder.vocab.metadata, options.prompt)
        self.history = History(options.max_steps, _value(options.dial))
        sampler = Sampler(
            options.temperature, top_p=options.top_p, min_p=options.min_p, seed=options.seed
        )
        self.writer = StepWriter(
            *(ladder, router, sampler, self.history, self._emit, lambda: _value(options.dial)),
            escalate=options.escalate,
            lookup=options.lookup,
        )
        self.steps: list[StepFinished] = []
        self.max_score: int | None = None

    def play(self) -> EpisodeFinished:
        self.router.reset(self.ladder.names, self.options.seed)
        prompt = self._open(self.game.reset())
        # An episode must not depend on what was played before it: only what would be computed
        # in the very same bits may stay.
        self.ladder.clear(prompt.tokens[: prompt.opening])
        reason = "interrupted"
        try:
            for step in range(self.options.max_steps):
                finished = self._step(step, prompt)
                if finished.done:
                    reason = "won" if finished.won else "lost"
                    break
            else:
                reason = "out of steps"
        except KeyboardInterrupt:
            pass
        finished_episode = self._summary(reason)
        with interrupts_held():
            self._emit(finished_episode)
        return finished_episode

    # -- one step -----------------------------------------------------------

    def _step(self, step: int, prompt: Prompt) -> StepFinished:
        self._make_room(step, prompt)
        constraint = None
        if self.options.constrain:
            constraint = Choices(self.game.admissible(), marker=MARKER, lead=prompt.lead)
        written = self.writer.write(
            step, prompt.tokens, self.style, constraint, opening=prompt.opening
        )
        generation, decision, draft = written.generation, written.decision, written.draft
        parsed = self.style.parse(generation.text)
        started = time.perf_counter()
        reply = self.game.step(parsed.action)
        latency = written.latency(env_ms=ms_since(started))
        finished = StepFinished(
            step=step,
            tier=self.ladder.names[decision.tier],
            tier_index=decision.tier,
            text=generation.text,
            thought=parsed.thought,
            action=parsed.action,
            observation=reply.observation,
            refused=self.task.refused(reply.observation),
            done=reply.done,
            won=reply.won,
            latency=latency,
            draft_action=None if draft is None else self.style.parse(draft.text).action,
            score=reply.score,
            passes=written.passes,
        )
        with interrupts_held():
            self._remember(finished, prompt, generation, written.features["entropy"])
            self._emit(finished)
            self._pass_on_notes()
        return finished

    def _remember(
        self, finished: StepFinished, prompt: Prompt, generation: Generation, entropy: float
    ) -> None:
        self.steps.append(finished)
        min_p, nll = self.writer.sampler.confidence()
        self.history.add(
            Past(
                text=finished.text,
                action=finished.action,
                reply=finished.observation,
                refused=finished.refused,
                tier=finished.tier_index,
                prompt_tokens=len(prompt.tokens),
                entropy=entropy,
                min_p=min_p,
                nll=nll,
            )
        )
        prompt.add(generation.tokens, generation.text, self.style.reply(finished.observation))

    # -- the ends -------------------------------------------------------------

    def _open(self, opening: Opening) -> Prompt:
        options = self.options
        template = ChatTemplate.of(self.ladder.vocab)
        first, shared = self.style.opening(opening), self.style.shared(opening)
        prompt = Prompt(template, self.ladder.vocab, first, shared=shared)
        self._require_room(prompt)
        self.history.begin(opening.goal)
        self.max_score = opening.max_score
        self._emit(
            EpisodeStarted(
                task=self.task.name,
                game=self.game.id,
                kind=self.game.kind,
                goal=opening.goal,
                observation=opening.observation,
                tiers=tier_infos(self.ladder, fingerprints=options.fingerprints),
                router=str(self.router.spec),
                kv=str(self.ladder.kv),
                prompt=self.style.name,
                seed=options.seed,
                temperature=options.temperature,
                constrained=options.constrain,
                max_steps=options.max_steps,
                max_score=opening.max_score,
            )
        )
        if self.style.note:
            self._emit(Noted(self.style.note))
        self._pass_on_notes()
        return prompt

    def _make_room(self, step: int, prompt: Prompt) -> None:
        turns, tokens = make_room(prompt, self.ladder.n_ctx - self._reserve())
        if turns:
            self._emit(TurnsDropped(step, turns, tokens))
        self._require_room(prompt)

    def _require_room(self, prompt: Prompt) -> None:
        needed = len(prompt.tokens) + self._reserve()
        if needed > self.ladder.n_ctx:
            raise UserError(
                f"a step of this game needs up to {needed} tokens and the context holds"
                f" {self.ladder.n_ctx}; use --ctx with a larger number"
            )

    def _reserve(self) -> int:
        """Tokens to keep free for the model's answer; commands are at most some 30 long."""
        return self.style.max_tokens + (32 if self.options.constrain else 0)

    def _summary(self, reason: str) -> EpisodeFinished:
        by_tier = dict.fromkeys(self.ladder.names, 0)
        for step in self.steps:
            by_tier[step.tier] += 1
        return EpisodeFinished(
            won=reason == "won",
            steps=len(self.steps),
            reason=reason,
            steps_by_tier=by_tier,
            refused=sum(s.refused for s in self.steps),
            latency=total(s.latency for s in self.steps),
            escalations=count(self.steps),
            score=self.steps[-1].score if self.steps else None,
            max_score=self.max_score,
            passes=passes_by_tier(self.steps),
        )

    def _pass_on_notes(self) -> None:
        for note in self.ladder.take_notes():
            self._emit(Noted(note))

    def _emit(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)


def tier_infos(ladder: Ladder, *, fingerprints: bool) -> tuple[TierInfo, ...]:
    """The tiers as listeners know them; a fingerprint takes a second per gigabyte."""
    return tuple(
        TierInfo(
            name=tier.name,
            file=tier.path.name,
            fingerprint=tier.fingerprint if fingerprints else "",
            size_bytes=tier.size_bytes,
            kv_bytes=tier.kv_bytes,
        )
        for tier in ladder.tiers
    )


def _value(dial: float | Callable[[], float]) -> float:
    return dial() if callable(dial) else dial
