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
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.checksums import require_promised
from edge_router.engine.constrain import Constraint
from edge_router.engine.fingerprint import require_same_model
from edge_router.engine.generate import Writer
from edge_router.engine.gguf_file import GgufHeader, read_header
from edge_router.engine.llama import ContextOverflowError, LlamaContext, copy_span
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.same_text import require_same_text
from edge_router.engine.sampling import Sampler
from edge_router.engine.tier import Generation, Ingest, KvMode, Tier, TierSpec, common_prefix
from edge_router.engine.tier_spec import DEFAULT_CONTEXT
from edge_router.engine.trial import require_tried
from edge_router.errors import UserError

__all__ = [
    "ContextOverflowError",
    "Generation",
    "Ingest",
    "KvMode",
    "Ladder",
    "Tier",
    "TierSpec",
]

# Types that ggml repacks for its fast CPU kernels (on one processor or another).
# A repacked tier read through mmap would lie in memory twice.
_REPACKED = frozenset(
    ("Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4")
)


def default_context(specs: Sequence[TierSpec]) -> int:
    """What the model was trained for, but no more than an episode needs."""
    header = read_header(specs[0].path)
    trained = header.metadata.get(f"{header.metadata.get('general.architecture')}.context_length")
    return min(int(trained), DEFAULT_CONTEXT) if trained else DEFAULT_CONTEXT


class Ladder:
    """The tiers of one model, low to high. A ladder of one tier is that tier alone."""

    def __init__(
        self, tiers: Sequence[Tier], kv: KvMode, n_ctx: int, *, reread: bool = False
    ) -> None:
        self.tiers = tuple(tiers)
        self.kv = kv
        self.n_ctx = n_ctx
        self.reread = reread
        self._prompt: list[int] = []
        self._logits_are_prompts = False

    @classmethod
    def load(
        cls,
        specs: Iterable[TierSpec],
        *,
        kv: KvMode | str = "handoff",
        n_ctx: int = DEFAULT_CONTEXT,
        n_threads: int | None = None,
        thread_limit: int | None = None,
        n_gpu_layers: int = 0,
        use_mmap: bool | None = None,
        reread: bool = False,
    ) -> Ladder:
        """Load the tiers, low to high.

        `n_threads` None follows the machine (`engine.threads`) on at most `thread_limit`
        threads, its physical cores by default. `use_mmap` None maps files
        whose weights stay as they lie on disk. `reread` lets the low tier
        compute its own steps' tokens again in the next `prefill`, as it does
        for the other tiers' steps: the cache then holds the same bits whoever
        wrote the text, where it otherwise differs by rounding. Raises `UserError` for a file
        that is missing, damaged, not what its `sha256` says or refused by llama.cpp, for files
        that are not builds of one model, and for an `n_ctx` the model was not trained for.
        """
        specs = list(specs)
        mode = KvMode.parse(kv) if isinstance(kv, str) else kv
        headers = [read_header(spec.path) for spec in specs]
        _check_specs(specs)
        require_same_model(headers)
        for spec, header in zip(specs, headers, strict=True):
            _require_trusted(spec, header)
        tiers: list[Tier] = []
        with ExitStack() as loaded:
            for spec, header in zip(specs, headers, strict=True):
                mmap = _maps_well(header, n_gpu_layers) if use_mmap is None else use_mmap
                model = LlamaModel.load(spec.path, n_gpu_layers=n_gpu_layers, use_mmap=mmap)
                loaded.callback(model.close)
                _check_model(model, n_ctx, handoff=len(specs) > 1 and not mode.exact)
                context = LlamaContext(
                    model, n_ctx=n_ctx, n_threads=n_threads, thread_limit=thread_limit
                )
                loaded.callback(context.close)
                tiers.append(Tier(spec.name, header.path, model, context, header.size_bytes))
            require_same_text([tier.model for tier in tiers])
            loaded.pop_all()
        return cls(tiers, mode, n_ctx, reread=reread)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tiers)

    @property
    def vocab(self) -> LlamaModel:
        """The vocabulary, the same in every tier: tokenize, detokenize, is_eog, chat_template."""
        return self.tiers[0].model

    def prefill(self, tokens: Sequence[int]) -> Ingest:
        """Make `tokens` the prompt: the low tier computes what its cache lacks.

        What the cache holds of another text is dropped. At least the last token
        is computed, so that `logits` is valid. Raises `ContextOverflowError`
        before anything is dropped if the prompt does not fit.
        """
        if len(tokens) > self.n_ctx:
            raise ContextOverflowError(len(tokens), self.n_ctx)
        if not tokens:
            raise ValueError("a prompt needs at least one token")
        started = time.perf_counter()
        base, prompt = self.tiers[0], list(tokens)
        kept = min(common_prefix(base.held, prompt), len(prompt) - 1)
        self.rewind(kept)
        base.decode(prompt[kept:])
        self._prompt, self._logits_are_prompts = prompt, True
        return Ingest(len(prompt) - kept, kept, _ms_since(started))

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
        max_tokens: int,
        stop: Sequence[str] = (),
        constrain: Constraint | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Generation:
        """Let a tier continue the prompt; may be called again, for this tier or another.

        Ends at an end-of-generation token, before a stop string, after
        `max_tokens`, or when `constrain` is fulfilled. With `constrain` the
        thought leaves room for marker and choice, and a stop string ends the
        thought only. `on_text` gets the text in pieces as it grows. Raises
        `ContextOverflowError` before anything is computed if prompt and
        `max_tokens` do not fit the context.
        """
        if not self._prompt:
            raise ValueError("generate needs a prompt: call prefill first")
        tier = self.tiers[tier_index]
        writer = Writer(
            tier.context,
            len(self._prompt),
            sampler,
            max_tokens=max_tokens,
            stop=stop,
            constrain=constrain,
            on_text=on_text,
        )
        if len(self._prompt) + writer.room > self.n_ctx:
            raise ContextOverflowError(len(self._prompt) + writer.room, self.n_ctx)
        handoff_tokens, handoff_ms = self._hand_over(tier)
        catchup_tokens, catchup_ms = self._catch_up(tier)
        started = time.perf_counter()
        try:
            reason = writer.run()
        finally:
            self._settle(tier, writer.fed)
        return Generation(
            tokens=tuple(writer.tokens),
            text=writer.stream.text,
            stop_reason=reason,
            handoff_ms=handoff_ms,
            handoff_tokens=handoff_tokens,
            catchup_ms=catchup_ms,
            catchup_tokens=catchup_tokens,
            decode_ms=_ms_since(started),
            decode_tokens=len(writer.fed),
        )

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
        return end - have, _ms_since(started)

    def _catch_up(self, tier: Tier) -> tuple[int, float]:
        """Let a tier compute the prompt tokens that are its own to compute."""
        if tier is self.tiers[0] and self._logits_are_prompts:
            return 0, 0.0
        started = time.perf_counter()
        have = min(common_prefix(tier.held, self._prompt), len(self._prompt) - 1)
        tier.truncate(have)
        tier.decode(self._prompt[have:])
        return len(self._prompt) - have, _ms_since(started)

    def _settle(self, tier: Tier, fed: Sequence[int]) -> None:
        """Enter in the books what a generation left in the tier's cache."""
        # An interruption may have stopped it anywhere; `fed` is what was surely computed.
        tier.held = self._prompt + list(fed)
        if tier is self.tiers[0]:
            self._logits_are_prompts = False
            if self.reread:
                tier.truncate(len(self._prompt))
        # A higher tier keeps copies alone. Its own KV of this step would make a later step depend
        # on who wrote this one, and rollouts could no longer be cached by the text.
        elif not self.kv.exact:
            tier.truncate(max(0, len(self._prompt) - self.kv.own))

    def rewind(self, n: int) -> None:
        """Keep the first `n` tokens of the canonical cache, and of every copy of it.

        `prefill` does it by itself; asked for before, it decides which tokens are computed
        together, and so the last bits of the result. A prompt has to be prefilled next.
        """
        self._prompt, self._logits_are_prompts = [], False
        self.tiers[0].truncate(n)
        if not self.kv.exact:
            for tier in self.tiers[1:]:
                tier.truncate(n)

    def clear(self) -> None:
        """Empty every cache, as after loading."""
        for tier in self.tiers:
            tier.truncate(0)
        self._prompt, self._logits_are_prompts = [], False

    def close(self) -> None:
        """Free all memory; the ladder cannot be used afterwards."""
        for tier in self.tiers:
            tier.context.close()
            tier.model.close()

    def __enter__(self) -> Ladder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _ms_since(started: float) -> float:
    return 1000.0 * (time.perf_counter() - started)


def _maps_well(header: GgufHeader, n_gpu_layers: int) -> bool:
    """Whether a file is better mapped than read: its weights are used as they lie on disk."""
    return n_gpu_layers != 0 or not header.type_names & _REPACKED


def _check_specs(specs: Sequence[TierSpec]) -> None:
    if not specs:
        raise UserError("a ladder needs at least one tier")
    names = [s.name for s in specs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two tiers are called {name!r}; give each tier a name of its own")


def _require_trusted(spec: TierSpec, header: GgufHeader) -> None:
    """Raise `UserError` for a file that is not the promised one, or that llama.cpp dies of."""
    require_promised(spec)
    if not (spec.sha256 and spec.shipped):
        require_tried(header)


def _check_model(model: LlamaModel, n_ctx: int, *, handoff: bool) -> None:
    if not 0 < n_ctx <= model.n_ctx_train:
        raise UserError(
            f"a context of {n_ctx} tokens is asked for, and {model.path.name} was trained for"
            f" 1 to {model.n_ctx_train}"
        )
    if model.is_recurrent:
        raise UserError(
            f"{model.path.name} has recurrent layers, whose cache cannot be cut back to an earlier"
            " token; choose a model with attention in every layer"
        )
    if handoff and model.n_swa > 0:
        raise UserError(
            f"{model.path.name} has sliding-window layers, whose KV cannot be handed over whole:"
            " use --kv exact"
        )
