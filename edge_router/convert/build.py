"""The whole way from a source to a ladder, resumable at every finished file.

    1  everything that can be refused is refused: tiers, checkpoint, folder, room on the disk
    2  F16, unless the source is a GGUF (its vocabulary is compared with transformers' first)
    3  the importance matrix, where one is asked for or a tier cannot do without
    4  each tier, in a process of its own
    5  each tier against F16
    6  ladder.toml, and the F16 file goes

What was finished before an interruption, or by an earlier run, is not made again;
the journal knows it by its content.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from edge_router.convert.gguf_source import GgufSource
from edge_router.convert.importance import (
    importance_key,
    make_importance,
    require_importance,
    uses_importance,
)
from edge_router.convert.journal import DoneTier, Intermediate, Journal, only_one
from edge_router.convert.source import Source, WrittenSource
from edge_router.convert.tiers import Quantised, fallback_notes, quantise_tier
from edge_router.convert.verify import (
    POSITIONS,
    Fidelity,
    Reference,
    in_nats,
    is_absurd,
    most_tokens,
    scratch_bytes,
)
from edge_router.engine.fingerprint import file_sha256
from edge_router.engine.gguf_file import read_header
from edge_router.engine.imatrix import write_imatrix
from edge_router.engine.quantise import QUANTISED_TIERS
from edge_router.engine.tier_sizes import estimated_bytes
from edge_router.errors import UserError
from edge_router.files.whole import Record, make_folder, require_space, temporary, whole
from edge_router.ladders.ladder_file import Measured, TierEntry, write_ladder
from edge_router.tasks.registry import find_task, style_for
from edge_router.work.progress import Bar, ShownProgress

DEFAULT_TIERS: Final = "q3_k_m,q4_k_m,q8_0"


@dataclass(frozen=True)
class Order:
    """What the user asked for."""

    out: Path
    tiers: tuple[str, ...]
    name: str = ""
    prompt: str = ""  # "" is what the source says, else react
    imatrix: str = ""  # "", "auto" or a file
    verify: bool = True
    positions: int | None = None  # that are compared; None: a tier's older figures will do
    keep_f16: bool = False
    threads: int | None = None


@dataclass(frozen=True)
class Made:
    """A finished ladder."""

    folder: Path
    name: str
    tiers: list[DoneTier] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)  # what was done now -> seconds


def parse_tiers(text: str) -> tuple[str, ...]:
    """Read "q8_0,q4_k_m". Raises `UserError`."""
    names = tuple(dict.fromkeys(t.strip().lower() for t in text.split(",") if t.strip()))
    unknown = [name for name in names if name not in QUANTISED_TIERS]
    if unknown or not names:
        said = f"there is no tier {unknown[0]!r}" if unknown else "--tiers names no tier"
        raise UserError(f"{said}; choose from {', '.join(QUANTISED_TIERS)}")
    return names


def convert(source: GgufSource | WrittenSource, order: Order, progress: ShownProgress) -> Made:
    """Make the ladder. Raises `UserError`."""
    style_for(find_task(), {}, order.prompt)
    require_importance(order.imatrix, source.columns)
    make_folder(order.out)
    with only_one(order.out):
        return _Conversion(source, order, progress).run()


class _Conversion:
    def __init__(
        self, source: GgufSource | WrittenSource, order: Order, progress: ShownProgress
    ) -> None:
        self.source, self.order, self.progress = source, order, progress
        self.name = order.name or source.name
        self.phases: dict[str, float] = {}
        self.positions = order.positions or POSITIONS
        self.journal = Journal.open(order.out, self._fingerprint())
        written = order.out / f"{self.name}-f16.gguf"
        self.f16 = source.path if isinstance(source, GgufSource) else written
        self.key = importance_key(order.imatrix)
        self.imatrix = order.out / f".{self.name}-{self.key[:12]}.imatrix.gguf"

    def run(self) -> Made:
        done = [t for t in map(self._finished, self.order.tiers) if t is not None]
        missing = [t for t in self.order.tiers if self._finished(t) is None]
        unverified = [t for t in done if self.order.verify and not self._is_compared(t)]
        self._require_room(missing, bool(unverified))
        if missing or unverified:
            self._make_f16()
        for kept in done:
            self.progress.note(f"{kept.name} is there already")
        if any(self._key(t) for t in missing):
            self._collect([t for t in missing if self._key(t)])
        for tier in missing:
            self._quantise(tier)
        made = sorted((self.journal.tiers[t] for t in self.order.tiers), key=lambda t: t.size_bytes)
        if self.order.verify:
            self._verify([t for t in made if not self._is_compared(t)])
            self._require_sound(made)
        prompt = style_for(
            find_task(), read_header(self.order.out / made[0].file).metadata, self.order.prompt
        )
        describe(self.journal, self.name, prompt.name, self.source, made)
        self._clear()
        return Made(self.order.out, self.name, made, self.phases)

    @contextmanager
    def _phase(self, what: str, total: int, unit: str = "") -> Iterator[Bar]:
        """A phase with a bar, whose seconds are told at the end."""
        started = time.monotonic()
        bar = self.progress(what, total, unit=unit)
        yield bar
        bar.end()
        self.phases[what] = time.monotonic() - started

    def _fingerprint(self) -> str:
        with self._phase("reading the source", self.source.n_bytes, "B") as bar:
            return self.source.fingerprint(_counted(bar.short_of_end))

    def _is_compared(self, tier: DoneTier) -> bool:
        return bool(tier.fidelity) and self.order.positions in (None, tier.positions)

    def _clear(self) -> None:
        """Remove what only the making needed."""
        f16 = self.journal.intermediates.get(self.f16.name)
        if f16 is not None and self.order.keep_f16:
            self.journal.add(replace(f16, stays=True))
        self.journal.clear([self.f16.name, self.imatrix.name])

    def _finished(self, tier: str) -> DoneTier | None:
        return self.journal.finished(tier, self._key(tier))

    def _key(self, tier: str) -> str:
        """The importance matrix that the tier is made with, "" for none."""
        return self.key if uses_importance(tier, self.order.imatrix) else ""

    def _require_room(self, missing: Sequence[str], unverified: bool) -> None:
        """Names that are free, and space on the disk."""
        f16 = bool(missing or unverified) and self._f16_is_missing()
        files = [self._target(t).name for t in missing if not self._is_f16(self._target(t))]
        files += [self.f16.name] if f16 else []
        files += [self.imatrix.name] if any(map(self._key, missing)) else []
        for file in files:
            self.journal.require_free(file)
        parameters = self.source.n_parameters
        needed = sum(estimated_bytes(t, parameters) for t in missing)
        if f16 and "f16" not in missing:
            needed += estimated_bytes("f16", parameters)
        if self.order.verify and (missing or unverified):
            needed += scratch_bytes(self.source.n_vocab, self.positions)
        require_space(self.order.out, needed)

    def _target(self, tier: str) -> Path:
        return self.order.out / f"{self.name}-{tier}.gguf"

    def _is_f16(self, path: Path) -> bool:
        """Whether this is the file that the tiers are made from."""
        there = path.is_file() and self.f16.is_file()
        return path == self.f16 or (there and path.samefile(self.f16))

    def _f16_is_missing(self) -> bool:
        return not isinstance(self.source, GgufSource) and not self.journal.holds(self.f16.name)

    def _enter_intermediate(self, target: Path) -> Record:
        return lambda partial: self.journal.add(Intermediate(target.name, file_sha256(partial)))

    def _make_f16(self) -> None:
        if isinstance(self.source, GgufSource) or self.journal.holds(self.f16.name):
            return
        with self._phase("F16", 2 * self.source.n_parameters, "B") as bar:
            remarks = self.source.write(
                self.f16,
                _counted(bar.short_of_end),
                check=self.order.verify,
                record=self._enter_intermediate(self.f16),
            )
        for said in remarks:
            self.progress.note(said)

    def _collect(self, tiers: Sequence[str]) -> None:
        """Make the importance matrix, unless an interrupted run left it."""
        if self.journal.holds(self.imatrix.name):
            return
        if not self.order.imatrix:
            self.progress.note(
                f"{', '.join(tiers)} cannot be made without an importance matrix: taking "
                "--imatrix auto"
            )
        style = style_for(find_task(), read_header(self.f16).metadata, self.order.prompt)
        wanted, threads = self.order.imatrix, self.order.threads
        with self._phase("importance matrix", 1):
            matrix = make_importance(self.f16, wanted, style, threads=threads)
            with whole(self.imatrix, self._enter_intermediate(self.imatrix)) as partial:
                write_imatrix(matrix, partial)
        self.progress.note(f"the matrix was taken over {matrix.tokens} tokens")

    def _quantise(self, tier: str) -> None:
        target, key = self._target(tier), self._key(tier)
        if self._is_f16(target):
            self.journal.add(
                DoneTier(tier, target.name, target.stat().st_size, file_sha256(target), 0.0)
            )
            return

        def enter(partial: Path, made: Quantised) -> None:
            size, sha256, fallbacks = made.size_bytes, file_sha256(partial), [*made.fallbacks]
            self.journal.add(
                DoneTier(tier, target.name, size, sha256, made.seconds, key, fallbacks)
            )

        with self._phase(tier, estimated_bytes(tier, self.source.n_parameters), "B") as bar:
            made = quantise_tier(
                self.f16,
                target,
                tier,
                imatrix=self.imatrix if key else None,
                threads=self.order.threads,
                advance=bar.short_of_end,
                record=enter,
            )
        matrices = sum(len(t.shape) > 1 for t in read_header(target).tensors.values())
        for said in fallback_notes(tier, made.fallbacks, matrices):
            self.progress.note(said)

    def _verify(self, tiers: Sequence[DoneTier]) -> None:
        if not tiers:
            return
        style = style_for(find_task(), read_header(self.f16).metadata, self.order.prompt)
        scratch = temporary(self.order.out / f"{self.name}-logits")
        try:
            with self._phase("reading with F16", most_tokens(self.positions)) as bar:
                reference = Reference(
                    self.f16,
                    style,
                    scratch,
                    positions=self.positions,
                    threads=self.order.threads,
                    advance=_counted(bar.short_of_end),
                )
            for tier in tiers:
                self._compare(reference, tier)
        finally:
            scratch.unlink(missing_ok=True)

    def _compare(self, reference: Reference, tier: DoneTier) -> None:
        with self._phase(f"{tier.name} against F16", reference.tokens) as bar:
            tier.fidelity = reference.compare(
                self.order.out / tier.file,
                threads=self.order.threads,
                advance=_counted(bar.short_of_end),
            )
        tier.positions = self.positions
        self.journal.add(tier)

    def _require_sound(self, tiers: Sequence[DoneTier]) -> None:
        for tier in tiers:
            if is_absurd(tier.fidelity):
                worst = max(tier.fidelity.values(), key=lambda found: found.kl)
                raise UserError(
                    f"the tier {tier.name} has lost the model (KL {in_nats(worst)} nats a token "
                    f"from F16, more than half of what guessing has); {_way_out(tier)}"
                )


def _counted(at: Callable[[int], None]) -> Callable[[int], None]:
    """Tell `at` the sum of what it is called with."""
    total = 0

    def advance(n: int) -> None:
        nonlocal total
        total += n
        at(total)

    return advance


def _way_out(tier: DoneTier) -> str:
    better = "" if tier.imatrix else "make it with --imatrix auto, "
    return f"{better}leave it out of --tiers, or keep it with --no-verify"


def describe(
    journal: Journal, name: str, prompt: str, source: Source, tiers: Sequence[DoneTier]
) -> None:
    """Write the ladder.toml of `tiers`, which are in the journal's folder, low to high."""
    facts: dict[str, str | int] = {
        "from": source.title,
        "architecture": source.architecture,
        "parameters": source.n_parameters,
        "fingerprint": journal.source,
    }
    ladder = {"name": name, "prompt": prompt}
    write_ladder(journal.folder, ladder, [*map(_entry, tiers)], source=facts)


def _entry(tier: DoneTier) -> TierEntry:
    facts: dict[str, str | int] = {"imatrix": tier.imatrix} if tier.imatrix else {}
    if tier.fallbacks:
        facts["tensors_of_another_type"] = len(tier.fallbacks)
    measured = {kind: _measured(found) for kind, found in tier.fidelity.items()}
    return TierEntry(tier.name, tier.file, tier.sha256, tier.size_bytes, facts, measured)


def _measured(found: Fidelity) -> Measured:
    facts = {
        "kl": round(found.kl, 6),
        "same_top": round(found.same_top, 4),
        "perplexity": float(f"{found.perplexity:.6g}"),
        "f16_perplexity": float(f"{found.f16_perplexity:.6g}"),
    }
    if found.kl_error is not None:
        facts["kl_error"] = round(found.kl_error, 6)
    return Measured(facts, f"against F16, {found.tokens} tokens")
