"""What ladder.toml says of a converted model: where it comes from, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from edge_router.convert.journal import DoneTier, Journal
from edge_router.convert.source import Source
from edge_router.convert.verify import Fidelity
from edge_router.ladders.ladder_writer import Measured, TierEntry, write_ladder


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
    return Measured(facts, f"against F16, {found.tokens} tokens")
