"""Write ladder.toml: the tiers cheapest first, their checksums, and what was measured.

`edge_router.ladder_file` reads the names and files back; the figures are for people.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from edge_router.convert.files import whole
from edge_router.convert.journal import DoneTier, Journal
from edge_router.convert.source import Source
from edge_router.ladder_file import LADDER_FILE


def write_ladder_file(
    journal: Journal, name: str, prompt: str, source: Source, tiers: Sequence[DoneTier]
) -> None:
    """Describe `tiers`, which are in the journal's folder, cheapest first."""
    with whole(journal.folder / LADDER_FILE) as partial:
        lines = [*_head(name, prompt, source, journal.source), *_tiers(tiers)]
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _head(name: str, prompt: str, source: Source, fingerprint: str) -> Iterator[str]:
    yield "[ladder]"
    yield f"name = {_text(name)}"
    yield f"prompt = {_text(prompt)}"
    yield ""
    yield "[source]"
    yield f"from = {_text(source.title)}"
    yield f"architecture = {_text(source.architecture)}"
    yield f"parameters = {source.n_parameters}"
    yield f"fingerprint = {_text(fingerprint)}"


def _tiers(tiers: Sequence[DoneTier]) -> Iterator[str]:
    for tier in tiers:
        yield ""
        yield "[[tier]]"
        yield f"name = {_text(tier.name)}"
        yield f"file = {_text(tier.file)}"
        yield f"sha256 = {_text(tier.sha256)}"
        yield f"size_bytes = {tier.size_bytes}"
        if tier.imatrix:
            yield f"imatrix = {_text(tier.imatrix)}"
        if tier.fallbacks:
            yield f"tensors_of_another_type = {len(tier.fallbacks)}"
        for kind, found in tier.fidelity.items():
            yield f"[tier.{kind}]  # against F16, {found.tokens} tokens"
            yield f"kl = {found.kl:.6f}"
            yield f"same_top = {found.same_top:.4f}"
            yield f"perplexity = {found.perplexity:.6g}"
            yield f"f16_perplexity = {found.f16_perplexity:.6g}"


def _text(value: str) -> str:
    """A TOML basic string; JSON's is one as long as nothing is escaped as surrogates."""
    return json.dumps(value, ensure_ascii=False)
