"""What a router learns of an episode besides logits: facts about its steps and words, as numbers.

The episode loop and the training's rollouts both keep a `History`, so a router
is asked in play with the very numbers it was trained on.

What a draft's words have to do with what was said before is its `Wording`. A model of low precision
often goes wrong in ways that stand on the page, however
sure it is: the action names another thing than its thought does ("see desklamp 1
on desk 1 > take mug 1"), the thought speaks of what the reply did not mention, a
place in the middle of a plan is left out. None of this needs the words to be
understood, only to be compared, in some ten microseconds a step.

A "thing" is a word with the number behind it, if any: "go to cabinet 21" is made
of "go", "to" and "cabinet 21", and its target is the last of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.sampling import Draw, Sampler
from edge_router.router.features import Draft, StepContext, Wording
from edge_router.router.logits import Measure, TokenStats, confidence, measure
from edge_router.tasks.parse import MARKER, Parsed

_THING = re.compile(r"\w+(?: \d+\b)?")


def things(text: str) -> list[str]:
    """The things of a text, in lower case and in their order."""
    return _THING.findall(text.lower())


class Said:
    """What was said in an episode so far, as things in their order."""

    def __init__(self) -> None:
        self._count = 0
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._pairs: set[tuple[str, str]] = set()  # things that stood side by side
        self._end = ""
        self._newest: list[str] = []

    def add(self, text: str) -> None:
        """Something more was said: the goal, a step, a reply."""
        self._newest = things(text)
        for thing in self._newest:
            self._first.setdefault(thing, self._count)
            self._last[thing] = self._count
            self._pairs.add((self._end, thing))
            self._count, self._end = self._count + 1, thing

    def compare(self, draft: Parsed, last_action: str) -> Wording:
        """The wording of a draft that follows on what was said last."""
        thought, action, last = things(draft.thought), things(draft.action), things(last_action)
        target = action[-1] if action else ""
        before = last[-1] if last else ""
        return Wording(
            off_thought=sum(thing not in thought for thing in action),
            off_reply=sum(thing not in self._newest for thing in thought),
            age=self._count - 1 - self._last[target] if target in self._last else None,
            on_last=bool(thought) and thought[-1] in last,
            follows=(before, target) in self._pairs,
            ahead=self._ahead(before, target),
        )

    def _ahead(self, before: str, target: str) -> int:
        """How many things after `before` was first named `target` was; 0 where one never was."""
        if before not in self._first or target not in self._first:
            return 0
        return self._first[target] - self._first[before]


# -- the steps so far -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Past:
    """One earlier step: what was done, what came of it, and how sure its writer was."""

    text: str  # all that was written, thought and action
    action: str
    reply: str
    refused: bool
    tier: int
    prompt_tokens: int
    entropy: float  # the low tier's, before the step
    min_p: float
    nll: float


@dataclass
class History:
    """The steps of an episode so far."""

    max_steps: int
    dial: float = 0.5
    steps: list[Past] = field(default_factory=list)
    said: Said = field(default_factory=Said)

    def begin(self, goal: str) -> None:
        """The episode is about `goal`, the first thing said in it."""
        self.said.add(goal)

    def add(self, past: Past) -> None:
        """A step is over: what was written and what was replied are said from now on."""
        self.steps.append(past)
        self.said.add(past.text)
        self.said.add(past.reply)

    def context(self, prompt_tokens: int) -> StepContext:
        """The facts before the next step, whose prompt has so many tokens."""
        steps, run = self.steps, 0
        while run < len(steps) and steps[-1 - run].refused:
            run += 1
        last = steps[-1] if steps else None
        escalated = sum(s.tier > 0 for s in steps)
        before = last.prompt_tokens if last else 0
        return StepContext(
            step=len(steps),
            max_steps=self.max_steps,
            prompt_tokens=prompt_tokens,
            new_tokens=max(0, prompt_tokens - before),
            last_refused=run > 0,
            refused_run=run,
            repeats=self.uses(last.action, steps[:-1]) if last else 0,
            last_tier=last.tier if last else -1,
            escalated_share=escalated / len(steps) if steps else 0.0,
            last_entropy=last.entropy if last else 0.0,
            dial=self.dial,
            seen_replies=sum(s.reply == last.reply for s in steps[:-1]) if last else 0,
            escalated_steps=escalated,
            last_min_p=last.min_p if last else 1.0,
            last_nll=last.nll if last else 0.0,
        )

    def uses(self, action: str, steps: Sequence[Past] | None = None) -> int:
        """How often `action` was given in `steps` (all, when None)."""
        return sum(s.action == action for s in (self.steps if steps is None else steps))

    def refusals(self, action: str) -> int:
        return sum(s.action == action and s.refused for s in self.steps)


class WatchedSampler(Sampler):
    """A sampler that remembers how likely each token was that it chose."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__(
            sampler.temperature,
            top_p=sampler.top_p,
            min_p=sampler.min_p,
            top_k=sampler.top_k,
            seed=sampler.seed,
        )
        self.likely = 0  # how many of the likeliest tokens are remembered at each choice
        self.likeliest: list[list[tuple[int, float]]] = []  # with their ln p
        self.tokens: list[int] = []
        self.stats: list[TokenStats] = []
        self._first: Measure | None = None

    def at_step(self, step: int, stream: int = 0, first: Measure | None = None) -> None:
        """A step begins; `first` is what the logits of its first token have been measured to."""
        super().at_step(step, stream)
        self.tokens, self.stats, self._first = [], [], first
        self.likeliest = []

    def sample(
        self,
        logits: NDArray[np.float32],
        allowed: NDArray[np.intp] | None = None,
        proposed: Draw | None = None,
    ) -> int:
        """The token drawn from logits (vocabulary,); its probability is noted."""
        token = super().sample(logits, allowed, proposed)
        self.tokens.append(token)
        measured = self._first or measure(logits)
        self._first = None
        self.stats.append(measured.token(float(logits[token])))
        if self.likely:
            self.likeliest.append(measured.likeliest(logits, self.likely))
        return token

    def unwatched(self) -> Sampler:
        """Another sampler of the same settings and seed."""
        return Sampler(
            self.temperature,
            top_p=self.top_p,
            min_p=self.min_p,
            top_k=self.top_k,
            seed=self.seed,
        )

    def confidence(self) -> tuple[float, float]:
        """(least probability, mean of -ln p) of what was sampled since `at_step`."""
        return confidence(self.stats)


def draft_of(
    model: LlamaModel,
    sampler: WatchedSampler,
    step: Parsed,
    history: History,
    prompt: Sequence[int],
) -> Draft:
    """The facts about the draft that `sampler` has just watched, which reads as `step`."""
    begins = action_begins(model, sampler.tokens)
    known = set(prompt)
    return Draft(
        tokens=tuple(sampler.stats),
        action=begins,
        repeats=history.uses(step.action),
        refused=history.refusals(step.action),
        novel=sum(t not in known for t in sampler.tokens[begins:] if not model.is_eog(t)),
        wording=history.said.compare(step, history.steps[-1].action if history.steps else ""),
    )


def action_begins(model: LlamaModel, tokens: Sequence[int]) -> int:
    """Index of the first token after the last marker; 0 where there is no marker."""
    text = model.join(tokens)
    at = text.rfind(MARKER.encode())
    if at < 0:
        return 0
    length, end = 0, at + len(MARKER)
    for index, token in enumerate(tokens):
        if length >= end:
            return index
        length += len(model.token_bytes(token))
    return len(tokens)
