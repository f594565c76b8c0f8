"""A ladder of tiers: several precisions of one model over one canonical KV cache.

The low tier reads every token of the text, so its cache is complete and
its logits feed the router. A higher tier that is chosen for a step gets the KV
it lacks in one of three ways (`KvMode`):

- "handoff": KV of all prompt tokens but the last is copied from the low
  tier; the chosen tier computes the last one itself, to have logits.
- "handoff:N": the newest N tokens are the chosen tier's own, the rest copied.
- "exact": everything is the chosen tier's own, as if it ran alone.

In the handoff modes a tier's cache is cut back after a step to what was copied.
A step's outcome then depends on the text so far and not on who wrote it.

A prompt may begin with an opening that other texts share. It is computed as a batch of its own
and kept, in the cache and on disk (`engine.openings`): by the low tier for all, or, with "exact",
by each tier that writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.clock import StageClock, ms_since
from edge_router.engine.generate import Limits, Proposal, Writer
from edge_router.engine.llama import ContextOverflowError, copy_span
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.loading import default_context, load_tiers, settled
from edge_router.engine.openings import OpeningStore, begin_with, usual_store, worth_keeping
from edge_router.engine.sampling import Sampler
from edge_router.engine.tier import Generation, Ingest, KvMode, Tier, TierSpec, common_prefix
from edge_router.engine.tier_spec import AUTO, DEFAULT_CONTEXT, GpuLayers, ModelRuntime
from edge_router.engine.verify import DraftReader, Drafts, Verification
from edge_router.errors import UserError

__all__ = [
    "ContextOverflowError",
    "Generation",
    "Ingest",
    "KvMode",
    "Ladder",
    "Tier",
    "TierSpec",
    "default_context",
]


class Ladder:
    """The tiers of one model, low to high. A ladder of one tier is that tier alone."""

    def __init__(
        self,
        tiers: Sequence[Tier],
        kv: KvMode,
        n_ctx: int,
        *,
        reread: bool = False,
        openings: OpeningStore | None = None,
    ) -> None:
        self.tiers = tuple(tiers)
        self.kv = kv
        self.n_ctx = n_ctx
        self.reread = reread
        self.openings = openings
        self._prompt: list[int] = []
        self._opening: list[int] = []  # what `_prompt` begins with
        self._logits_are_prompts = False
        self._notes: list[str] = []  # for `take_notes`

    @classmethod
    def load(
        cls,
        specs: Iterable[TierSpec],
        *,
        kv: KvMode | str = "handoff",
        n_ctx: int = DEFAULT_CONTEXT,
        n_threads: int | None = None,
        thread_limit: int | None = None,
        gpu_layers: GpuLayers = AUTO,
        use_mmap: bool | None = None,
        reread: bool = False,
        openings: OpeningStore | None = None,
    ) -> Ladder:
        """Load the tiers, low to high.

        `n_threads` None follows the machine (`engine.threads`) on at most `thread_limit`
        threads, its physical cores by default. `gpu_layers` is how many layers of each tier a GPU
        computes, -1 all, "auto" as many as fit (`engine.tier_sizes`). `use_mmap` None maps files
        whose weights stay as they lie on disk. `reread` lets the low tier
        compute its own steps' tokens again in the next `prefill`, as it does
        for the other tiers' steps: the cache then holds the same bits whoever
        wrote the text, where it otherwise differs by rounding. `openings` keeps the beginnings of
        prompts on disk, None only in the caches. Raises `UserError` for a file that is missing,
        damaged, not what its `sha256` says or refused by llama.cpp, for files that are not builds
        of one model, and for an `n_ctx` the model was not trained for.
        """
        mode = KvMode.parse(kv) if isinstance(kv, str) else kv
        tiers, notes = load_tiers(
            list(specs),
            mode,
            n_ctx=n_ctx,
            n_threads=n_threads,
            thread_limit=thread_limit,
            gpu_layers=gpu_layers,
            use_mmap=use_mmap,
        )
        ladder = cls(tiers, mode, n_ctx, reread=reread, openings=openings)
        ladder._notes = notes
        return ladder

    @classmethod
    def load_on(
        cls,
        machine: ModelRuntime,
        specs: Iterable[TierSpec],
        *,
        kv: KvMode | str = "handoff",
        thread_limit: int | None = None,
    ) -> Ladder:
        """As `load`, with what the models run on in one value."""
        tiers = list(specs)
        return cls.load(
            tiers,
            kv=kv,
            n_ctx=settled(machine, tiers).ctx or DEFAULT_CONTEXT,
            n_threads=machine.threads,
            thread_limit=thread_limit,
            gpu_layers=machine.gpu_layers,
            openings=None if machine.no_opening_store else usual_store(),
        )

    def alone(self, name: str) -> Ladder:
        """A ladder of one of the tiers: its weights, with a KV cache of its own.

        It must not outlive this one. Raises `UserError` when there is no such tier.
        """
        if name not in self.names:
            raise UserError(f"there is no tier {name!r}; there are {', '.join(self.names)}")
        tier = self.tiers[self.names.index(name)]
        return Ladder(
            (tier.again(),), self.kv, self.n_ctx, reread=self.reread, openings=self.openings
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tiers)

    @property
    def vocab(self) -> LlamaModel:
        """The vocabulary, the same in every tier: tokenize, detokenize, is_eog, chat_template."""
        return self.tiers[0].model

    def prefill(self, tokens: Sequence[int], *, opening: int = 0) -> Ingest:
        """Make `tokens` the prompt: the low tier computes what its cache lacks.

        What the cache holds of another text is dropped. At least the last token
        is computed, so that `logits` is valid. The first `opening` tokens, if they are enough to
        be worth it and not in the cache, are loaded or computed as a batch of their own. Raises
        `ContextOverflowError` before anything is dropped if the prompt does not fit.
        """
        if len(tokens) > self.n_ctx:
            raise ContextOverflowError(len(tokens), self.n_ctx)
        if not tokens:
            raise ValueError("a prompt needs at least one token")
        base, prompt = self.tiers[0], list(tokens)
        begins = worth_keeping(prompt[: min(opening, len(prompt) - 1)])
        if common_prefix(base.held, begins) < len(begins):
            self.rewind(0)
        opened = begin_with(base, begins, self.openings)
        started = time.perf_counter()
        kept = min(common_prefix(base.held, prompt), len(prompt) - 1)
        self.rewind(kept)
        base.decode(prompt[kept:])
        self._prompt, self._opening, self._logits_are_prompts = prompt, begins, True
        return Ingest(
            new_tokens=len(prompt) - kept + opened.new_tokens,
            kept_tokens=kept - opened.new_tokens - opened.load_tokens,
            ms=ms_since(started) + opened.ms,
            load_tokens=opened.load_tokens,
            load_ms=opened.load_ms,
        )

    def logits(self) -> NDArray[np.float32]:
        """The low tier's logits after the prompt: a read-only view, shape (n_vocab,).

        Valid from `prefill` until the next `generate` or `prefill`.
        """
        if not self._logits_are_prompts:
            raise ValueError("no prompt was prefilled since the last generation")
        return self.tiers[0].context.logits()

    def generate(
        self,
        tier_index: int,
        sampler: Sampler,
        *,
        on_text: Callable[[str], None] | None = None,
        keep: bool = False,
        lookup: int = 0,
        **limits: Unpack[Limits],
    ) -> Generation:
        """Let a tier continue the prompt; may be called again, for this tier or another.

        Ends at an end-of-generation token, before a `stop` string, after
        `max_tokens`, or when `constrain` is fulfilled. With `constrain` the
        thought leaves room for marker and choice, and a stop string ends the
        thought only. `on_text` gets the text in pieces as it grows; its time is in no figure.
        `keep` makes `Generation.proposal` hold what a tier needs to verify a text that was
        sampled. `lookup` is how many tokens at most are guessed at a time and read in one batch
        (`engine.lookup`), 0 for none. Raises `ContextOverflowError` before anything is computed if
        prompt and `max_tokens` do not fit the context.
        """
        tier, clock = self.tiers[tier_index], StageClock(on_text)
        reader = DraftReader(tier, self._prompt, lookup)
        place = reader, len(self._prompt), sampler
        writer = Writer(*place, on_text=clock.show, keep=keep, **limits)
        self._require_room(writer)
        handoff_tokens, handoff_ms = self._hand_over(tier)
        catchup = self._catch_up(tier)
        clock.lap()
        try:
            reason = writer.run()
        finally:
            self._leave(tier, writer)
        return Generation(
            tokens=tuple(writer.tokens),
            text=writer.stream.text,
            stop_reason=reason,
            handoff_ms=handoff_ms,
            handoff_tokens=handoff_tokens,
            catchup_ms=catchup.ms,
            catchup_tokens=catchup.new_tokens,
            decode_ms=clock.lap(),
            decode_tokens=len(writer.fed),
            proposal=writer.proposal(),
            load_tokens=catchup.load_tokens,
            load_ms=catchup.load_ms,
            lookup_tokens=reader.work.guessed,
            lookup_accepted=reader.work.accepted,
        )

    def verify(
        self,
        tier_index: int,
        draft: Proposal,
        sampler: Sampler,
        *,
        on_text: Callable[[str], None] | None = None,
        keep: bool = False,
        lookup: int = 0,
        **limits: Unpack[Limits],
    ) -> Generation:
        """Let a higher tier continue the prompt as `generate` does, sparing it what a draft has.

        The tier reads the draft in a batch, keeps what it would have written itself and goes on
        from the first choice that it rejects. `draft` is the `proposal` of a lower tier's text
        after this prompt, under the same limits; where the sampler is not greedy it was made with
        `keep`, and with another random stream. The rest is as in `generate`.
        """
        tier = self.tiers[tier_index]
        work = Verification(
            tier, self._prompt, sampler, on_text=on_text, keep=keep, lookup=lookup, **limits
        )
        self._require_room(work.writer)
        handed = self._hand_over(tier)
        opened = begin_with(tier, self._opening, self.openings)
        try:
            work.check(draft)
            work.write_rest()
        finally:
            self._leave(tier, work.writer)
        return work.generation(*handed, opened)

    def speculate(
        self,
        tier_index: int,
        sampler: Sampler,
        drafter: Sampler,
        *,
        chunk: int,
        on_text: Callable[[str], None] | None = None,
        lookup: int = 0,
        **limits: Unpack[Limits],
    ) -> Generation:
        """Let a higher tier continue the prompt, the low tier drafting `chunk` tokens at a time.

        A disagreement is found after a chunk and not after the whole text, and what is accepted
        is shown at once. `drafter` draws the drafts, from another random stream than `sampler`.
        """
        low, tier = self.tiers[0], self.tiers[tier_index]
        drafts = Drafts(low, self._prompt, drafter, chunk, lookup, **limits)
        work = Verification(tier, self._prompt, sampler, on_text=on_text, lookup=lookup, **limits)
        self._require_room(work.writer)
        handed = self._hand_over(tier)
        opened = begin_with(tier, self._opening, self.openings)
        self._catch_up(low)
        try:
            while work.writer.reason is None:
                work.check(drafts.after(work.writer.draws))
        finally:
            self._leave(tier, work.writer)
            self._leave(low, drafts.writer)
        written = work.generation(*handed, opened)
        guessed = drafts.work
        return replace(
            written,
            draft_ms=drafts.ms,
            draft_tokens=guessed.written,
            lookup_tokens=written.lookup_tokens + guessed.guessed,
            lookup_accepted=written.lookup_accepted + guessed.accepted,
        )

    def _require_room(self, writer: Writer) -> None:
        if not self._prompt:
            raise ValueError("a prompt is needed: call prefill first")
        if len(self._prompt) + writer.room > self.n_ctx:
            raise ContextOverflowError(len(self._prompt) + writer.room, self.n_ctx)

    def _hand_over(self, tier: Tier) -> tuple[int, float]:
        """Copy to a higher tier the KV it lacks; returns tokens and milliseconds."""
        if tier is self.tiers[0] or self.kv.exact:
            return 0, 0.0
        started = time.perf_counter()
        # The newest tokens are the tier's own to compute: it needs logits of its own weights, and
        # more of them bring its view of the text nearer to what it would be alone.
        end = max(0, len(self._prompt) - self.kv.own)
        have = min(common_prefix(tier.held, self._prompt), end)
        # What is held from the last handoff stays: a step copies only what is new since.
        tier.truncate(have)
        copy_span(self.tiers[0].context, tier.context, have, end)
        tier.held += self._prompt[have:end]
        return end - have, ms_since(started)

    def _catch_up(self, tier: Tier) -> Ingest:
        """Let a tier compute the prompt tokens that are its own to compute."""
        if tier is self.tiers[0] and self._logits_are_prompts:
            return Ingest(0, len(self._prompt), 0.0)
        opened = begin_with(tier, self._opening, self.openings)
        started = time.perf_counter()
        have = min(common_prefix(tier.held, self._prompt), len(self._prompt) - 1)
        tier.truncate(have)
        tier.decode(self._prompt[have:])
        new = len(self._prompt) - have + opened.new_tokens
        ms = ms_since(started) + opened.ms
        return replace(opened, new_tokens=new, kept_tokens=have, ms=ms)

    def _leave(self, tier: Tier, writer: Writer) -> None:
        """Cut a tier's cache to what may stay in it when `writer` is done, or was interrupted."""
        prompt, written = len(self._prompt), len(writer.fed)
        if tier is self.tiers[0]:
            self._logits_are_prompts = False
            tier.truncate(prompt if self.reread else prompt + written)
        # A higher tier keeps copies alone. Its own KV of this step would make a later step depend
        # on who wrote this one, and rollouts could no longer be cached by the text.
        else:
            tier.truncate(prompt + written if self.kv.exact else max(0, prompt - self.kv.own))

    def rewind(self, n: int) -> None:
        """Keep the first `n` tokens of the canonical cache, and of every copy of it.

        `prefill` does it by itself; asked for before, it decides which tokens are computed
        together, and so the last bits of the result. A prompt has to be prefilled next.
        """
        self._forget_prompt()
        self.tiers[0].truncate(n)
        if not self.kv.exact:
            for tier in self.tiers[1:]:
                tier.truncate(n)

    def clear(self, opening: Sequence[int] = ()) -> None:
        """Empty every cache, as after loading.

        One that holds `opening` in the bits that it would have anew keeps it: what follows is the
        same, and sooner there.
        """
        base, wanted = self.tiers[0], list(opening)
        for tier in self.tiers:
            source = tier if self.kv.exact else base  # the others hold copies
            tier.truncate(len(wanted) if source.opening == wanted else 0)
        self._forget_prompt()

    def _forget_prompt(self) -> None:
        self._prompt, self._opening, self._logits_are_prompts = [], [], False

    def take_notes(self) -> list[str]:
        """Sentences that the user should read and was not given yet; the run goes on."""
        notes, self._notes = self._notes, []
        if self.openings is not None:
            notes += self.openings.take_notes()
        return notes

    def close(self) -> None:
        """Free all memory; the ladder cannot be used afterwards."""
        for tier in self.tiers:
            tier.close()

    def __enter__(self) -> Ladder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
