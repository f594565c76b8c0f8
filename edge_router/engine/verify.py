"""Read what a text is expected to say before it is asked for: how a tier verifies in one batch.

A `Writer` on a `DraftReader` asks for one row of logits after another, as it does on
any context. The reader has the draft's tokens run through the model in batches,
so as long as the writer chooses what the draft has, its rows are there already.
At the first other choice the cache is cut back, and from there on the writer decodes
token by token, or with guesses at what comes next (`engine.lookup`). That makes the text exactly
what the tier would have written alone on that cache, up to the rounding of batches, whatever ends
or constrains it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Final, Unpack

import numpy as np
from numpy.typing import NDArray

from edge_router.engine.clock import StageClock
from edge_router.engine.generate import Limits, Proposal, Writer
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.lookup import Lookup
from edge_router.engine.sampling import Draw, Sampler
from edge_router.engine.tier import Generation, Ingest, Tier, common_prefix

# Rows of logits in one batch. Memory is reserved for so many: 20 MB at a 152k vocabulary. A batch
# of 32 computes 16 tokens in vain where one of the first 16 is rejected, and where all are
# accepted it saves 0 to 5 % over two of 16 (q8_0 at 1.7B; docs/measurements.md).
ROWS: Final = 16


@dataclass(frozen=True)
class Work:
    """Tokens that were run through the model, and in how many batches."""

    tokens: int = 0
    batches: int = 0
    guessed: int = 0  # of the tokens, those that were guessed by lookup
    accepted: int = 0  # of these, those that the text came to have

    @property
    def written(self) -> int:
        """Tokens of the text itself; what was guessed in vain is none."""
        return self.tokens - self.guessed + self.accepted

    def __sub__(self, other: Work) -> Work:
        return Work(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


class DraftReader:
    """A tier's cache after a prompt, reading ahead what is expected to be written.

    The tier's books (`held`) are right at any time, so an interruption needs no care.
    """

    def __init__(self, tier: Tier, prompt: Sequence[int], lookup: int = 0) -> None:
        """`lookup` is how many tokens are guessed at most where no draft says what comes."""
        self.model: LlamaModel = tier.model
        self.work = Work()
        self._lookup = Lookup(prompt, lookup) if lookup else None
        self._tier, self._prompt = tier, list(prompt)
        self._text: list[int] = []  # what the writer has fed
        self._expected: list[int] = []
        self._rows: NDArray[np.float32] | None = None  # None: the context's own last row
        self._first = -1  # the place in the text after whose token the first row stands
        self._row = 0
        self._guessing = False  # the rows behind the first are those of guesses

    def expect(self, tokens: Sequence[int]) -> None:
        """The text from its start as a draft has it; it may turn out otherwise."""
        self._expected = list(tokens)

    def read_prompt(self) -> None:
        """Compute what the cache lacks of the prompt, at least its last token, and read ahead."""
        kept = min(common_prefix(self._tier.held, self._prompt), len(self._prompt) - 1)
        self._compute(kept, self._prompt[kept:])

    def decode(self, tokens: Sequence[int], pos0: int) -> None:
        """Make the logits after `tokens` at `pos0` the current ones."""
        start = pos0 - len(self._prompt)
        self._text[start:] = tokens
        text, held = self._text, self._tier.held[len(self._prompt) :]
        row = len(text) - 1 - self._first
        if self._rows is not None and row < len(self._rows) and held[: len(text)] == text:
            if self._guessing:
                self.work = replace(self.work, accepted=self.work.accepted + row - self._row)
            self._row = row
            return
        kept = min(common_prefix(held, text), len(text) - 1)
        self._compute(len(self._prompt) + kept, text[kept:])

    def logits(self) -> NDArray[np.float32]:
        """The logits after what was decoded last: a view, shape (n_vocab,)."""
        return self._tier.context.logits() if self._rows is None else self._rows[self._row]

    def _compute(self, kept: int, tokens: list[int]) -> None:
        """Cut the cache back to `kept` tokens and run `tokens` and what is expected behind them."""
        tier, draft = self._tier, self._ahead()
        guess = [] if draft else self._guess()
        ahead = draft + guess
        rows, batch = 1 + len(ahead), tokens + ahead
        tier.truncate(kept)
        self._first, self._row, self._rows = len(self._text) - 1, 0, None
        self._guessing = bool(guess)
        done = self.work
        self.work = Work(
            done.tokens + len(batch), done.batches + 1, done.guessed + len(guess), done.accepted
        )
        if rows == 1:
            tier.decode(batch)
            return
        early = 0 if len(batch) <= tier.context.n_batch else len(batch) - rows
        if early:
            tier.decode(batch[:early])
        self._rows = tier.decode_rows(batch[early:], rows)

    def _ahead(self) -> list[int]:
        """What a draft has behind the text, as far as there is room for it."""
        at = len(self._text)
        if self._expected[:at] != self._text:
            return []
        return self._expected[at : at + self._room()]

    def _guess(self) -> list[int]:
        return self._lookup.after(self._text)[: self._room()] if self._lookup else []

    def _room(self) -> int:
        """Tokens that can be read ahead in one batch."""
        context = self._tier.context
        left = context.n_ctx - len(self._prompt) - len(self._text)
        return max(0, min(context.max_rows - 1, left))


class Verification:
    """One text by a higher tier, which is given drafts of it."""

    def __init__(
        self,
        tier: Tier,
        prompt: Sequence[int],
        sampler: Sampler,
        *,
        on_text: Callable[[str], None] | None = None,
        keep: bool = False,
        lookup: int = 0,
        **limits: Unpack[Limits],
    ) -> None:
        self._clock = StageClock(on_text)
        self._reader = DraftReader(tier, prompt, lookup)
        self.writer = Writer(
            self._reader, len(prompt), sampler, on_text=self._clock.show, keep=keep, **limits
        )
        self._drafted = 0
        self._verified = Work()
        self._verify_ms = self._decode_ms = 0.0

    def check(self, draft: Proposal) -> None:
        """Read a draft that has the text so far and more, up to the first choice not taken over.

        Where all are accepted, one choice more comes free with the last row of logits.
        """
        self._clock.lap()
        self._reader.expect(draft.read)
        if not self._reader.work.batches:
            self._reader.read_prompt()
        proposed = draft.draws[len(self.writer.draws) :]
        self._drafted += len(proposed)
        self.writer.propose(proposed)
        self.writer.run_own(1)
        self._verify_ms += self._clock.lap()
        self._verified = self._reader.work

    def write_rest(self) -> None:
        """Write on alone, to the text's end."""
        self._clock.lap()
        self.writer.run()
        self._decode_ms += self._clock.lap()

    def generation(self, handoff_tokens: int, handoff_ms: float, opened: Ingest) -> Generation:
        """The whole text and what it took; `opened` is what the tier's own opening took."""
        writer, own = self.writer, self._reader.work - self._verified
        return Generation(
            tokens=tuple(writer.tokens),
            text=writer.stream.text,
            stop_reason=writer.run(),
            handoff_ms=handoff_ms,
            handoff_tokens=handoff_tokens,
            catchup_ms=opened.ms,
            catchup_tokens=opened.new_tokens,
            decode_ms=self._decode_ms,
            decode_tokens=own.written,
            proposal=writer.proposal(),
            verify_ms=self._verify_ms,
            verify_tokens=self._verified.tokens,
            verify_batches=self._verified.batches,
            drafted=self._drafted,
            accepted=len(writer.draws) - writer.own,
            load_tokens=opened.load_tokens,
            load_ms=opened.load_ms,
            lookup_tokens=own.guessed,
            lookup_accepted=own.accepted,
        )


class Drafts:
    """The low tier's drafts of a text that a higher tier writes, `chunk` choices at a time."""

    def __init__(
        self,
        low: Tier,
        prompt: Sequence[int],
        sampler: Sampler,
        chunk: int,
        lookup: int = 0,
        **limits: Unpack[Limits],
    ) -> None:
        if chunk < 1:
            raise ValueError("a draft has at least one token")
        self._reader = DraftReader(low, prompt, lookup)
        self._prompt_tokens, self._sampler, self._chunk = len(prompt), sampler, chunk
        self._limits = limits
        self.ms = 0.0
        self.writer = self._writer(())

    @property
    def work(self) -> Work:
        """What the low tier ran through its model."""
        return self._reader.work

    def after(self, draws: Sequence[Draw]) -> Proposal:
        """The text that `draws` make, whoever chose them, and a draft of what follows."""
        clock = StageClock(None)
        self.writer = self._writer(draws)
        self.writer.run_own(self._chunk)
        self.ms += clock.lap()
        return self.writer.proposal()

    def _writer(self, draws: Sequence[Draw]) -> Writer:
        place = self._reader, self._prompt_tokens, self._sampler
        return Writer(*place, replay=draws, keep=True, **self._limits)
