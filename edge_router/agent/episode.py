"""The episode loop: the road of one step, from observation to observation.

    prompt -> prefill on the cheapest tier -> features -> router -> tier
      -> handoff, decode -> thought + action -> environment -> next prompt

It emits events (`agent.events`) and prints nothing; whoever wants to show,
record or count something listens.

    play_episode(task, ladder, router, Options(), [PlainPrinter(...)])
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

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
from edge_router.agent.interrupts import interrupts_held
from edge_router.agent.parse import MARKER
from edge_router.agent.prompt import Prompt
from edge_router.agent.styles import PromptStyle, style_for
from edge_router.agent.template import ChatTemplate
from edge_router.engine.constrain import Constraint
from edge_router.engine.ladder import Ladder
from edge_router.engine.sampling import Sampler
from edge_router.engine.tier import Generation, Ingest
from edge_router.errors import UserError
from edge_router.router.base import Decision, Features, Router, StepContext
from edge_router.router.features import extract
from edge_router.tasks.base import REFUSED, Opening, Reply, Task

# A full context is emptied to this share of its room: each time turns are dropped, all that
# follows them is prefilled again, so it must not happen every step.
ROOM_AFTER_DROPPING = 0.75


@dataclass(frozen=True)
class Options:
    """How an episode is played."""

    max_steps: int = 50
    seed: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    dial: float | Callable[[], float] = 0.5  # a function is asked before every step
    constrain: bool = False
    fingerprints: bool = True  # tell the files' SHA-256, which takes a second per gigabyte


def play_episode(
    task: Task,
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
    return _Episode(task, ladder, router, options, listeners).play()


class _Episode:
    """What one episode accumulates."""

    def __init__(
        self,
        task: Task,
        ladder: Ladder,
        router: Router,
        options: Options,
        listeners: Sequence[Listener],
    ) -> None:
        self.task, self.ladder, self.router, self.options = task, ladder, router, options
        self.listeners = listeners
        self.style: PromptStyle = style_for(ladder.vocab.metadata)
        self.sampler = Sampler(
            options.temperature, top_p=options.top_p, min_p=options.min_p, seed=options.seed
        )
        self.steps: list[StepFinished] = []
        self.last_entropy = 0.0

    def play(self) -> EpisodeFinished:
        self.router.reset(self.ladder.names, self.options.seed)
        # A kept opening would save little, and its logits differ by rounding from those of a
        # fresh one: an episode must not depend on what was played before it.
        self.ladder.clear()
        prompt = self._open(self.task.reset())
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
        ingest = self.ladder.prefill(prompt.tokens)
        self._emit(StepStarted(step, len(prompt.tokens), ingest.new_tokens))
        started = time.perf_counter()
        features = extract(self.ladder.logits(), self._context(step, prompt, ingest))
        decision = self.router.decide(features)
        route_ms = _ms_since(started)
        self._announce(step, features, decision)
        generation = self._write(step, prompt, decision)
        parsed = self.style.parse(generation.text)
        started = time.perf_counter()
        reply = self.task.step(parsed.action)
        latency = _latency(ingest, route_ms, generation, _ms_since(started))
        finished = StepFinished(
            step=step,
            tier=self.ladder.names[decision.tier],
            tier_index=decision.tier,
            text=generation.text,
            thought=parsed.thought,
            action=parsed.action,
            observation=reply.observation,
            refused=reply.observation == REFUSED,
            done=reply.done,
            won=reply.won,
            latency=latency,
        )
        with interrupts_held():
            self._remember(finished, prompt, generation, reply)
            self._emit(finished)
        return finished

    def _write(self, step: int, prompt: Prompt, decision: Decision) -> Generation:
        self.sampler.at_step(step)
        constraint = None
        if self.options.constrain:
            constraint = Constraint(self.task.admissible(), marker=MARKER, lead=prompt.lead)
        listening_ms = 0.0

        def tell(text: str) -> None:
            nonlocal listening_ms
            started = time.perf_counter()
            self._emit(TextDecoded(step, text))
            listening_ms += _ms_since(started)

        generation = self.ladder.generate(
            decision.tier,
            self.sampler,
            max_tokens=self.style.max_tokens,
            stop=self.style.stop,
            constrain=constraint,
            on_text=tell,
        )
        # A slow terminal is not a slow model.
        return replace(generation, decode_ms=max(0.0, generation.decode_ms - listening_ms))

    def _announce(self, step: int, features: Features, decision: Decision) -> None:
        named = dict(zip(features.names, map(float, features.vector), strict=True))
        self.last_entropy = named.get("entropy", 0.0)
        self._emit(
            Routed(
                step=step,
                tier=self.ladder.names[decision.tier],
                tier_index=decision.tier,
                reason=decision.reason,
                probability=decision.probability,
                features=named,
                score=decision.score,
                thresholds=decision.thresholds,
                forced=decision.forced,
            )
        )

    def _remember(
        self, finished: StepFinished, prompt: Prompt, generation: Generation, reply: Reply
    ) -> None:
        self.steps.append(finished)
        prompt.add(generation.tokens, generation.text, self.style.reply(reply.observation))

    def _context(self, step: int, prompt: Prompt, ingest: Ingest) -> StepContext:
        """The facts about a step that need no logits."""
        run = 0
        while run < len(self.steps) and self.steps[-1 - run].refused:
            run += 1
        return StepContext(
            step=step,
            max_steps=self.options.max_steps,
            prompt_tokens=len(prompt.tokens),
            new_tokens=ingest.new_tokens,
            last_refused=run > 0,
            refused_run=run,
            repeats=sum(s.action == self.steps[-1].action for s in self.steps[:-1]),
            last_tier=self.steps[-1].tier_index if self.steps else -1,
            dear_share=_mean([s.tier_index > 0 for s in self.steps]),
            last_entropy=self.last_entropy,
            dial=_value(self.options.dial),
        )

    # -- the ends -------------------------------------------------------------

    def _open(self, opening: Opening) -> Prompt:
        vocab, options = self.ladder.vocab, self.options
        template = ChatTemplate(
            vocab.chat_template,
            bos=vocab.token_text(vocab.bos_id),
            eos=vocab.token_text(vocab.eos_id),
        )
        prompt = Prompt(template, vocab, self.style.opening(opening))
        self._require_room(prompt)
        self._emit(
            EpisodeStarted(
                task=self.task.name,
                game=self.task.id,
                kind=self.task.kind,
                goal=opening.task,
                observation=opening.observation,
                tiers=tuple(
                    TierInfo(
                        name=tier.name,
                        file=tier.path.name,
                        fingerprint=tier.fingerprint if options.fingerprints else "",
                        size_bytes=tier.size_bytes,
                    )
                    for tier in self.ladder.tiers
                ),
                router=self.router.spec,
                kv=str(self.ladder.kv),
                prompt=self.style.name,
                seed=options.seed,
                temperature=options.temperature,
                constrained=options.constrain,
                max_steps=options.max_steps,
            )
        )
        return prompt

    def _make_room(self, step: int, prompt: Prompt) -> None:
        limit = self.ladder.n_ctx - self._reserve()
        turns, tokens = 0, 0
        if len(prompt.tokens) > limit:
            turns, tokens = prompt.drop_oldest(int(limit * ROOM_AFTER_DROPPING))
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
        total = {
            f.name: sum(getattr(s.latency, f.name) for s in self.steps) for f in fields(Latency)
        }
        return EpisodeFinished(
            won=reason == "won",
            steps=len(self.steps),
            reason=reason,
            steps_by_tier=by_tier,
            refused=sum(s.refused for s in self.steps),
            latency=Latency(**total),
        )

    def _emit(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)


def _latency(ingest: Ingest, route_ms: float, g: Generation, env_ms: float) -> Latency:
    return Latency(
        prefill_ms=ingest.ms,
        route_ms=route_ms,
        handoff_ms=g.handoff_ms,
        catchup_ms=g.catchup_ms,
        decode_ms=g.decode_ms,
        env_ms=env_ms,
        prefill_tokens=ingest.new_tokens,
        handoff_tokens=g.handoff_tokens,
        catchup_tokens=g.catchup_tokens,
        decode_tokens=g.decode_tokens,
    )


def _value(dial: float | Callable[[], float]) -> float:
    return dial() if callable(dial) else dial


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0


def _ms_since(started: float) -> float:
    return 1000.0 * (time.perf_counter() - started)
