"""`calibrate --cores N --bandwidth GB/S`: what a ladder costs on a machine that is not here."""

from __future__ import annotations

from collections.abc import Sequence

from edge_router.bench.calibrate import keep_and_show
from edge_router.bench.roofline import predicted_profile
from edge_router.engine.trust import ladder_fingerprint
from edge_router.errors import UserError
from edge_router.ladders.costs import CostProfile, find_profile, ladder_profile
from edge_router.ladders.resolve import resolve
from edge_router.results.outputs import Outputs


def run_predict(
    model: str | None,
    tiers: Sequence[str],
    shape: str | None,
    cores: int,
    bandwidth: float,
    outputs: Outputs,
) -> int:
    """Predict, store, show; returns the exit code. `bandwidth` is in GB/s. Raises `UserError`."""
    outputs.check()
    if not bandwidth > 0:
        raise UserError(f"--bandwidth {bandwidth:g}: more than 0 GB/s are needed")
    profile = predicted_profile(_measured(model, tiers, shape), cores, 1e9 * bandwidth)
    said = (
        f"predicted for {profile.predicted}, from what this machine measured: computing is shared"
        " out among the cores, and every call reads all weights once; show a table by it with"
        f" bench policies --costs {profile.model}"
    )
    keep_and_show(profile, {"predicted": said, "warnings": []}, outputs)
    return 0


def _measured(model: str | None, tiers: Sequence[str], shape: str | None) -> CostProfile:
    """The profile of this machine. Raises `UserError` where the ladder was not calibrated."""
    if shape is not None:
        return find_profile(shape)
    ladder = resolve(model, tiers)
    found = ladder_profile(ladder.name, ladder_fingerprint(ladder.tiers))
    if found is None:
        raise UserError(
            f"{ladder.name or 'this ladder'} was not measured on this machine yet; run edge-router"
            " calibrate for it first, without --cores"
        )
    return found
