"""What a step costs on this machine, in seconds, as `edge-router calibrate` measured it.

Bits are no cost: on one processor q3_k_m is slower than q4_k_m, on another it is not. So a
profile holds measured seconds, and whoever weighs quality against cost (routers, training,
reports) asks it what a step of so many tokens takes on a tier:

    profile = find_profile("household")           # or "qwen3-1.7b", or a file
    profile.step_seconds("q8_0", StepTokens(prefill=40, handoff=40, draft=12, verify=13, decode=4))

A profile is a small JSON file under `folders.data_folder()/profiles`. This module only reads,
writes and adds up; `bench.calibrate` measures.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_router.errors import UserError
from edge_router.files.data_files import NotUnderstoodError, from_plain, read_object
from edge_router.files.folders import data_folder, if_any
from edge_router.files.whole import write_text, writing

SCHEMA: Final = "edge-router/costs/3"
_UNVERIFIED: Final = "edge-router/costs/2"  # it has no times of verification
_BEFORE: Final = "edge-router/costs/1"  # nor that; it called prefilling reading, decoding writing
_RENAMED: Final = {"read_s": "prefill_s", "write_s": "decode_s"}


@dataclass(frozen=True)
class StepTokens:
    """The work of one step in tokens, as `events.Latency` counts it."""

    prefill: int  # prefilled by the low tier
    handoff: int = 0  # KV copied to the chosen tier
    catchup: int = 0  # prefilled by the chosen tier itself
    decode: int = 0  # decoded by the chosen tier
    prompt_tokens: int = 0  # length of the whole prompt
    draft: int = 0  # decoded by the low tier, as a draft that was not kept as it is
    verify: int = 0  # run through the chosen tier in batches, with logits after each
    verify_batches: int = 1


@dataclass(frozen=True)
class TierCost:
    """Seconds of one tier, as measured at some spans and depths and straight lines between.

    Not one number a token: on CPUs a span of 32 tokens can take longer than one of 64, because
    another kernel reads it, and both take longer the more the context holds.
    """

    name: str
    size_bytes: int
    spans: tuple[int, ...]  # tokens prefilled in one go, ascending
    depths: tuple[int, ...]  # tokens in the context before, ascending
    prefill_s: tuple[tuple[float, ...], ...]  # seconds to prefill a span: [depth][span]
    decode_s: tuple[float, ...]  # seconds to decode a token: [depth]
    drafts: tuple[int, ...] = ()  # tokens verified in one go, ascending; () was not measured
    verify_s: tuple[tuple[float, ...], ...] = ()  # seconds to verify them: [depth][draft]

    def prefill(self, tokens: int, depth: int = 0) -> float:
        """Seconds to prefill `tokens` in one go after `depth` tokens of context."""
        if tokens <= 0:
            return 0.0
        at_depths = [between(self.spans, times, tokens) for times in self.prefill_s]
        return between(self.depths, at_depths, depth)

    def verify(self, tokens: int, batches: int = 1, depth: int = 0) -> float:
        """Seconds to run `tokens` through the model in so many batches, with logits after each.

        Where that was not measured, what prefilling them takes: it lacks the logits alone.
        """
        if tokens <= 0:
            return 0.0
        each = tokens / max(1, batches)
        spans, rows = (self.drafts, self.verify_s) if self.drafts else (self.spans, self.prefill_s)
        at_depths = [between(spans, times, each) for times in rows]
        return max(1, batches) * between(self.depths, at_depths, depth)

    def decode(self, tokens: int, depth: int = 0) -> float:
        """Seconds to decode `tokens`, one after another, after `depth` tokens of context."""
        return tokens * between(self.depths, self.decode_s, depth + tokens / 2)


def between(at: Sequence[int], values: Sequence[float], x: float) -> float:
    """The value at `x` on straight lines through the points.

    Below the first point it is the first value; beyond the last the last line goes on, but not
    below the last value: nothing takes less time by being longer.
    """
    if x <= at[0] or len(at) == 1:
        return values[0]
    i = next((i for i in range(1, len(at)) if x <= at[i]), len(at) - 1)
    slope = (values[i] - values[i - 1]) / (at[i] - at[i - 1])
    if x > at[i]:
        slope = max(0.0, slope)
        return values[i] + slope * (x - at[i])
    return values[i - 1] + slope * (x - at[i - 1])


@dataclass(frozen=True)
class CostProfile:
    """Costs of a ladder, low tier first, and the machine they were measured on."""

    model: str  # "household", or a shape: "qwen3-1.7b"
    ladder: str  # fingerprint of the ladder, "" for random weights of a shape
    tiers: tuple[TierCost, ...]
    handoff_call_s: float
    handoff_token_s: float
    threads: int  # 0: their number followed the machine
    created: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    predicted: str = ""  # "32 cores, 45 GB/s": computed from what `machine` measured; "" measured

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tiers)

    def tier(self, name: str) -> TierCost:
        """Raises UserError when the profile does not know the tier."""
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise UserError(
            f"the cost profile of {self.model} has no tier {name!r}, only "
            f"{', '.join(self.names)}; calibrate this ladder"
        )

    def handoff(self, tokens: int) -> float:
        """Seconds to copy the KV of `tokens` from the low tier to another."""
        return self.handoff_call_s + tokens * self.handoff_token_s if tokens > 0 else 0.0

    def step_seconds(self, tier: str, tokens: StepTokens, *, reader: str | None = None) -> float:
        """Seconds of a step that `tier` writes.

        `reader` is the tier that read the prompt (the low tier of the ladder played with;
        None: of this profile). Raises UserError for a tier that is not in the profile.
        """
        first = self.tier(reader) if reader is not None else self.tiers[0]
        chosen = self.tier(tier)
        return (
            first.prefill(tokens.prefill, max(0, tokens.prompt_tokens - tokens.prefill))
            + self.handoff(tokens.handoff)
            + chosen.prefill(tokens.catchup, max(0, tokens.prompt_tokens - tokens.catchup))
            + first.decode(tokens.draft, tokens.prompt_tokens)
            + chosen.verify(tokens.verify, tokens.verify_batches, tokens.prompt_tokens)
            + chosen.decode(tokens.decode, tokens.prompt_tokens)
        )


def profile_path(model: str, ladder: str = "") -> Path:
    """Where the profile of a model is kept; ladders of one name have a file each."""
    name = re.sub(r"[^\w.-]+", "_", model) or "ladder"
    return data_folder() / "profiles" / f"{name}{f'-{ladder[:8]}' if ladder else ''}.json"


def save_profile(profile: CostProfile) -> Path:
    """Store the profile, in place of an older one of the same ladder. Raises UserError."""
    path = profile_path(profile.model, profile.ladder)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"schema": SCHEMA, **asdict(profile)}, indent=2) + "\n")
    return path


def ladder_profile(model: str, ladder: str) -> CostProfile | None:
    """The profile of exactly this ladder, None when it was never calibrated."""
    path = if_any(lambda: profile_path(model, ladder))
    return read_profile(path) if path and os.path.isfile(path) else None


def find_profile(name: str) -> CostProfile:
    """A profile by its model's name ("qwen3-1.7b") or by its file. Raises UserError."""
    path = Path(name)
    if path.is_file():
        return read_profile(path)
    folder = profile_path(name).parent
    stored = [profile_path(name), *sorted(folder.glob(f"{profile_path(name).stem}-????????.json"))]
    there = [p for p in stored if p.is_file()]
    if there:
        return read_profile(max(there, key=lambda p: p.stat().st_mtime))
    known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none yet"
    raise UserError(
        f"there is no cost profile {name!r} (stored: {known}); make one with edge-router calibrate"
    )


def read_profile(path: Path) -> CostProfile:
    """Read a profile. Raises UserError when the file is none of this version."""
    data = read_object(path, "a cost profile")
    if data.get("schema") == _BEFORE:
        data = _in_todays_names(data)
    if data.get("schema") == _UNVERIFIED:
        data = data | {"schema": SCHEMA}
    if data.get("schema") != SCHEMA:
        raise UserError(f"{path} is no cost profile of this version ({SCHEMA}): calibrate again")
    try:
        profile = from_plain(CostProfile, data)
        _check(profile)
    except (NotUnderstoodError, ValueError) as error:
        raise UserError(f"{path} is no cost profile: {error}; calibrate again") from error
    return profile


def _in_todays_names(data: dict[str, Any]) -> dict[str, Any]:
    """A profile of the schema before, its tiers' columns renamed."""
    tiers = data.get("tiers")
    if not isinstance(tiers, list) or not all(isinstance(tier, dict) for tier in tiers):
        return data | {"schema": SCHEMA}  # damaged: what reads it says so
    new = [{_RENAMED.get(key, key): value for key, value in tier.items()} for tier in tiers]
    return data | {"schema": SCHEMA, "tiers": new}


def _check(profile: CostProfile) -> None:
    numbers: list[float] = [profile.handoff_call_s, profile.handoff_token_s]
    for t in profile.tiers:
        shape = [len(row) for row in t.prefill_s]
        if not t.spans or not t.depths or shape != [len(t.spans)] * len(t.depths):
            raise ValueError("its spans, depths and times do not belong together")
        if t.drafts and [len(row) for row in t.verify_s] != [len(t.drafts)] * len(t.depths):
            raise ValueError("its drafts, depths and times do not belong together")
        if len(t.decode_s) != len(t.depths):
            raise ValueError("its depths and times do not belong together")
        numbers += [*t.drafts, *(s for row in t.verify_s for s in row)]
        numbers += [*t.spans, *t.depths, *t.decode_s, *(s for row in t.prefill_s for s in row)]
        if list(t.spans) != sorted(set(t.spans)) or list(t.depths) != sorted(set(t.depths)):
            raise ValueError("its spans and depths do not ascend")
        if list(t.drafts) != sorted(set(t.drafts)):
            raise ValueError("its drafts do not ascend")
    if not profile.tiers or any(n < 0 for n in numbers):
        raise ValueError("its costs are not numbers of 0 or more")
