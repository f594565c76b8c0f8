"""What measured times become on other numbers of cores and other memory: arithmetic.

Computing is shared out among the cores, memory is not: every call reads all weights once. It
knows nothing of caches, of the KV that is read besides, and of clocks that fall when more cores
are busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_router.ladders.costs import CostProfile, TierCost


@dataclass(frozen=True)
class CoresAndMemory:
    """What bounds a decode: threads that were measured, and bytes a second that memory gives."""

    threads: int
    one: float  # bytes a second, one thread
    all: float  # bytes a second, all of them

    def bandwidth(self, cores: int) -> float:
        """Bytes a second that so many cores get."""
        return min(cores * self.one, max(self.one, self.all))


@dataclass(frozen=True)
class Roofline:
    """From a machine that was measured to one that was not."""

    share: float  # of the measured seconds that computing takes there
    bandwidth: float  # bytes a second that its memory gives

    def call(self, seconds: float, weight_bytes: int) -> float:
        """Seconds of a call that reads all weights once."""
        return max(weight_bytes / self.bandwidth, seconds * self.share)


def predicted_profile(measured: CostProfile, cores: int, bandwidth: float) -> CostProfile:
    """The costs of the same ladder on `cores` cores and memory of `bandwidth` bytes a second.

    The handoff, copies of memory, stays as it was measured.
    """
    threads = measured.threads or int(measured.machine.get("cores") or 1)
    roofline = Roofline(threads / cores, bandwidth)
    where = f"{cores}-cores-{bandwidth / 1e9:g}-GBs"
    return replace(
        measured,
        model=f"{measured.model}-on-{where}",
        ladder="",  # it is never taken for the ladder's own
        tiers=tuple(_predicted_tier(tier, roofline) for tier in measured.tiers),
        threads=cores,
        predicted=f"{cores} cores, {bandwidth / 1e9:g} GB/s",
    )


def _predicted_tier(tier: TierCost, roofline: Roofline) -> TierCost:
    def row(times: Sequence[float]) -> tuple[float, ...]:
        return tuple(roofline.call(seconds, tier.size_bytes) for seconds in times)

    return replace(
        tier,
        prefill_s=tuple(map(row, tier.prefill_s)),
        decode_s=row(tier.decode_s),
        verify_s=tuple(map(row, tier.verify_s)),
    )
