"""What every tier writes after a history, with the statistics that labels and features need.

The result depends on the history alone, bit for bit: the ladder reads its own
text again (`reread`), each turn is prefilled by itself as in play, and when
the last history was another one the caches are cut back to a turn's boundary
first. With `--kv exact` the higher tiers' own caches are kept to the same
boundaries; in play they may have read several turns at once, or keep the tokens they
wrote, which is the same text and differs by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_router.agent.history import History, WatchedSampler, draft_of
from edge_router.agent.prompt import Prompt, make_room
from edge_router.agent.step_writer import Answer
from edge_router.agent.template import ChatTemplate
from edge_router.engine.ladder import Ladder
from edge_router.engine.openings import begin_with
from edge_router.engine.sampling import Draw, Sampler, kl_divergence, log_softmax
from edge_router.engine.tier import Generation, Tier, common_prefix
from edge_router.router.features import extract, with_draft
from edge_router.tasks.protocol import Opening, PromptStyle
from edge_router.tasks.registry import DEFAULT, find_task, style_for
from train.router.node import Writing


@dataclass(frozen=True)
class Turn:
    """An earlier step, as the prompt holds it."""

    tokens: tuple[int, ...]
    text: str
    reply: str


@dataclass(frozen=True)
class Reading:
    """What a history looks like to the ladder."""

    prompt_tokens: int
    features: NDArray[np.float32]  # ALL_NAMES
    writings: tuple[Writing, ...]


class Decoder:
    """Reads histories with a ladder, one after the other."""

    def __init__(self, ladder: Ladder, prompt: str = "", task: str = DEFAULT) -> None:
        """`prompt` is one of the task's styles; "" is the GGUF's own. Raises UserError."""
        if not ladder.reread:
            raise ValueError("histories need Ladder.load(reread=True)")
        self.ladder = ladder
        self.style: PromptStyle = style_for(find_task(task), ladder.vocab.metadata, prompt)
        self.form: Answer = self.style
        self.template = ChatTemplate.of(ladder.vocab)
        self._eog = ladder.vocab.eog_ids[0]
        self._opening_tokens = 0
        self._opening: Opening | None = None
        self._turns: list[Turn] = []
        self._prompt: Prompt | None = None
        self._prompts: list[list[int]] = []  # before each step of the history
        self._held: list[list[int]] = []  # the prompts that the low tier's cache went through

    def read(self, opening: Opening, turns: Sequence[Turn], history: History) -> Reading:
        """Let every tier go on from a history; `history` holds the same steps as facts."""
        self._write_prompts(opening, turns)
        assert self._prompt is not None
        return self.answers(self._prompts, self._prompt.opening, history)

    def answers(self, prompts: list[list[int]], opening: int, history: History) -> Reading:
        """Let every tier go on after the last of `prompts`, which are those of the steps so far.

        The first `opening` tokens are what other texts begin with as well.
        """
        self._opening_tokens = opening
        self._prefill(prompts)
        features = extract(self.ladder.logits(), history.context(len(prompts[-1])))
        watched, logits, writings = [], list[NDArray[np.float32]](), list[Writing]()
        for index in range(len(self.ladder.tiers)):
            sampler = LogitsRecorder()
            text = self._generate(index, sampler, prompts)
            min_p, nll = sampler.confidence()
            writings.append(
                Writing(
                    *(text.text, text.tokens, self.action(text.text), min_p, nll),
                    *(text.decode_tokens, 0.0, 0.0, 0.0),
                )
            )
            logits.append(np.stack(sampler.logits))
            watched.append(sampler)
        step = self.form.parse(writings[0].text)
        draft = draft_of(self.ladder.vocab, watched[0], step, history, prompts[-1])
        whole = with_draft(features, draft)
        best = watched[-1].tokens
        measured = [
            self._with_kl(index, writing, watched[index].tokens, logits, best, prompts)
            for index, writing in enumerate(writings)
        ]
        return Reading(len(prompts[-1]), whole.vector, tuple(measured))

    def action(self, text: str) -> str:
        """What a text comes to; two of one action are as good as each other."""
        return self.form.parse(text).action

    # -- prompts ------------------------------------------------------------------

    def _write_prompts(self, opening: Opening, turns: Sequence[Turn]) -> None:
        """Bring `_prompts` to this history, from scratch unless it continues the last one."""
        turns, kept = list(turns), len(self._turns)
        prompt = self._prompt
        if prompt is None or opening != self._opening or turns[:kept] != self._turns:
            first, shared = self.style.opening(opening), self.style.shared(opening)
            prompt = Prompt(self.template, self.ladder.vocab, first, shared=shared)
            self._prompt, self._opening, kept = prompt, opening, 0
            self._prompts = [self._with_room(prompt)]
        for turn in turns[kept:]:
            prompt.add(turn.tokens, turn.text, self.style.reply(turn.reply))
            self._prompts.append(self._with_room(prompt))
        self._turns = turns

    def _with_room(self, prompt: Prompt) -> list[int]:
        make_room(prompt, self.ladder.n_ctx - self.style.max_tokens)
        return list(prompt.tokens)

    # -- the model ------------------------------------------------------------------

    def _prefill(self, prompts: list[list[int]]) -> None:
        """Read the prompts in turn, from where the cache leaves their road."""
        self._held = self._back_to(prompts)
        if not self._held:
            self.ladder.clear(prompts[0][: self._opening_tokens])
        else:
            self.ladder.rewind(len(self._held[-1]))
        for prompt in prompts[len(self._held) :]:
            self.ladder.prefill(prompt, opening=self._opening_tokens)
            self._held.append(prompt)

    def _back_to(self, prompts: list[list[int]]) -> list[list[int]]:
        """The prompts that are common to the cache's road and this one, without the last.

        Where turns were dropped on the way, the cache no longer holds the earlier prompts.
        """
        common = 0
        while common < min(len(self._held), len(prompts) - 1):
            if self._held[common] != prompts[common]:
                break
            common += 1
        held = self._held[-1] if self._held else []
        for earlier in self._held[max(0, common - 1) :]:
            if held[: len(earlier)] != earlier:
                return []
        return self._held[:common]

    def _generate(
        self, index: int, sampler: LogitsRecorder, prompts: list[list[int]]
    ) -> Generation:
        if index > 0 and self.ladder.kv.exact:
            self._read_turns(self.ladder.tiers[index], prompts)
        generation = self.write(index, sampler)
        if self.ladder.kv.exact:
            self.ladder.tiers[index].truncate(len(prompts[-1]))
        return generation

    def write(self, index: int, sampler: LogitsRecorder) -> Generation:
        """A tier's text after the prompt that was read last."""
        return self.ladder.generate(
            index, sampler, max_tokens=self.form.max_tokens, stop=self.form.stop
        )

    def _read_turns(self, tier: Tier, prompts: list[list[int]]) -> None:
        """Let a tier of an exact ladder read the earlier turns one by one, as the low tier does."""
        for prompt in prompts[:-1]:
            if tier.held[: len(prompt)] == prompt:
                continue
            kept = min(common_prefix(tier.held, prompt), len(prompt) - 1)
            tier.truncate(_boundary(kept, [tier.opening, *prompts]))
            begin_with(tier, prompt[: self._opening_tokens], self.ladder.openings)
            tier.decode(prompt[len(tier.held) :])
        read = prompts[-2] if len(prompts) > 1 else tier.opening
        tier.truncate(min(len(tier.held), len(read)))

    def _with_kl(
        self,
        index: int,
        writing: Writing,
        sampled: list[int],
        logits: list[NDArray[np.float32]],
        best: list[int],
        prompts: list[list[int]],
    ) -> Writing:
        """`writing` with KL(high || tier) at every token that the high tier sampled."""
        if index == len(logits) - 1:
            return writing
        theirs = logits[index]
        if sampled != best:
            forced = LogitsRecorder(best, self._eog)
            self._generate(index, forced, prompts)
            theirs = np.stack(forced.logits)
            if index == 0:  # its cache was decoded again from the prompt's last token on
                self._held.pop()
        length = min(len(theirs), len(logits[-1]))
        kl = kl_divergence(log_softmax(logits[-1][:length]), log_softmax(theirs[:length]))
        return Writing(
            writing.text,
            writing.tokens,
            writing.action,
            writing.min_p,
            writing.nll,
            writing.decoded,
            float(kl.sum()),
            float(kl.mean()),
            float(kl.max()),
        )


class LogitsRecorder(WatchedSampler):
    """Keeps every row of logits; writes given tokens instead of the likeliest where it has some."""

    def __init__(self, forced: Sequence[int] | None = None, end: int = -1) -> None:
        super().__init__(Sampler())
        self.logits: list[NDArray[np.float32]] = []
        self._forced = None if forced is None else [*forced, end]

    @property
    def is_forced(self) -> bool:
        """Whether the tokens are given, so that nobody else's can be proposed."""
        return self._forced is not None

    def sample(
        self,
        logits: NDArray[np.float32],
        allowed: NDArray[np.intp] | None = None,
        proposed: Draw | None = None,
    ) -> int:
        self.logits.append(logits.copy())
        if self._forced is None:
            return super().sample(logits, allowed, proposed)
        return self._forced[len(self.logits) - 1]


def _boundary(kept: int, wholes: list[list[int]]) -> int:
    """The end of the last whole text within the first `kept` tokens."""
    return max((len(w) for w in wholes if len(w) <= kept), default=0)
