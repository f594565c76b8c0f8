"""Runs a trained router from an ONNX file, and refuses one made for other features or tiers.

A router that reads its inputs in another order, or in another scale, would
answer all the same and be wrong; so the file says which features it was
trained on and is checked before an episode begins (`onnx_file`).

The choice is the lowest tier with P(a higher one is needed) < threshold.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_router.errors import UserError
from edge_router.router.base import Decision, Features, Router
from edge_router.router.feature_table import column
from edge_router.router.onnx_file import first_line, read_router
from edge_router.router.spec import RouterSpec

_DIAL = column("dial")


class OnnxRouter(Router):
    """The router in an ONNX file. Raises UserError when the file is none or does not fit."""

    score = "p(escalate)"
    heeds_dial = True

    def __init__(self, path: str | Path) -> None:
        self.spec = RouterSpec.trained(Path(path))
        self.file = read_router(Path(path))
        self.decide_at = self.file.decide_at
        self._dials: dict[float, np.float32] = {}
        self.tiers: tuple[str, ...] = ()
        self._outputs = ["probabilities"] + (["state_out"] if self.file.state_shape else [])
        self._state: NDArray[np.float32] | None = None

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        """Zero the state. Raises UserError when the file was made for other tiers."""
        file, here = self.file, f"the ladder has {len(tiers)} ({', '.join(tiers)})"
        if file.tiers is not None and file.tiers != tiers:
            raise UserError(
                f"{file.path} was trained for {len(file.tiers)} tiers ({', '.join(file.tiers)}) "
                f"but {here}; choose a router made for this ladder, or call the tiers so if they "
                "are these"
            )
        if file.width not in (1, len(tiers)):
            raise UserError(
                f"{file.path} was trained for {file.width} tiers but {here}; choose a router made "
                "for this ladder"
            )
        self.tiers = tiers
        self._state = np.zeros(file.state_shape, np.float32) if file.state_shape else None

    def decide(self, features: Features) -> Decision:
        """Raises UserError when the network fails or its output is not probabilities."""
        # 1. The user's dial in the network's terms. What listeners show stays the user's.
        vector, threshold = features.vector, self.file.threshold
        if self.file.calibration:
            vector = vector.copy()
            vector[_DIAL] = self._network_dial(float(vector[_DIAL]))
        # 2. The network, which is handed the state that it left behind at the last step.
        feed = {"features": vector[None, :]}
        if self._state is not None:
            feed["state_in"] = self._state
        try:
            outputs = self.file.session.run(self._outputs, feed)
        except Exception as error:  # onnxruntime's own exceptions share no base but Exception
            raise UserError(f"{self.file.path} cannot be run: {first_line(error)}") from error
        if self._state is not None:
            self._state = outputs[1]
        # 3. The lowest tier that is probably enough.
        higher = self._higher(outputs[0].ravel().tolist())
        tier = next((i for i, p in enumerate(higher) if p < threshold), len(higher))
        met = tier > 0
        shown = higher[tier - 1] if met else higher[0]
        reason = f"{self.score} {shown:.2f} {'>=' if met else '<'} {threshold:.2f}"
        # A single probability knows the ends of the ladder only.
        chosen = len(self.tiers) - 1 if self.file.width == 1 and met else tier
        return Decision(chosen, reason, higher[0], score=higher[0], thresholds=(threshold,))

    def dial_for(self, share: float) -> float:
        """The dial at which about `share` of the steps were escalated when it was measured.

        Raises UserError when the file was exported without such measurements.
        """
        if not self.file.calibration:
            raise UserError(
                f"{self.file.path} was not calibrated for a budget; set --dial instead of --budget"
            )
        dials, _, shares = zip(*self.file.calibration, strict=True)
        growing = np.maximum.accumulate(shares)
        # The largest dial that stays within the budget, between the points by straight lines.
        inside = int(np.searchsorted(growing, share, side="right"))
        if inside == 0:
            return float(dials[0])
        if inside == len(dials):
            return float(dials[-1])
        a, b = growing[inside - 1], growing[inside]
        part = (share - a) / (b - a)
        return float(dials[inside - 1] + part * (dials[inside] - dials[inside - 1]))

    def _network_dial(self, dial: float) -> np.float32:
        """The dial that the network was trained with, for the user's; remembered, as it is slow."""
        if dial not in self._dials:
            dials, inner, _ = zip(*self.file.calibration, strict=True)
            self._dials[dial] = np.float32(np.interp(dial, dials, inner))
        return self._dials[dial]

    def _higher(self, output: list[float]) -> list[float]:
        """P(a tier higher than i is needed) for every tier i but the highest.

        Plain Python: for a handful of numbers NumPy takes four times as long.
        """
        width = self.file.width
        fits = len(output) == width and all(-1e-4 < p < 1 + 1e-4 for p in output)
        if not fits or (width > 1 and abs(sum(output) - 1) > 1e-3):
            raise UserError(
                f"{self.file.path} gives [{' '.join(f'{p:.3g}' for p in output)}], which is not "
                "probabilities; export it with a softmax or sigmoid at the end"
            )
        if width == 1:
            return output
        return list(itertools.accumulate(output[:0:-1]))[::-1]
