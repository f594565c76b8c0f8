"""Runs a trained router from an ONNX file, and refuses one made for other features or tiers.

A router that reads its inputs in another order, or in another scale, would
answer all the same and be wrong; so the file says which features it was
trained on and is checked before an episode begins. What a file holds:

    input   features       float32 (1, n)
    output  probabilities  float32 (1, number of tiers): that tier i is the one needed,
                           or (1, 1) or (1,): that the dearest tier is needed
    input   state_in       optional, float32: zeros at the start of an episode,
    output  state_out      then what the last step put out
    metadata edge_router.schema     the features' schema
             edge_router.features   JSON list of the features' names, in order; with those of a
                                    draft the router is asked when the draft is written
             edge_router.tiers      optional, JSON list of the tiers, cheapest first
             edge_router.threshold  optional, 0.5 where absent
             edge_router.dial       optional, JSON list of [dial, the network's dial, share of
                                    steps it sent to dearer tiers], dials from 0 to 1

The choice is the cheapest tier with P(a dearer one is needed) < threshold.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_router.data_files import parse_json
from edge_router.errors import UserError
from edge_router.router.base import DecideAt, Decision, Features
from edge_router.router.features import ALL_NAMES, NAMES, SCHEMA
from edge_router.router.onnx_session import first_line, open_session

DEFAULT_THRESHOLD = 0.5
_DIAL = NAMES.index("dial")

Calibration = tuple[tuple[float, float, float], ...]  # dial, the network's dial, share


class OnnxRouter:
    """The router in an ONNX file. Raises UserError when the file is none or does not fit."""

    def __init__(self, path: str | Path) -> None:
        self.spec = f"onnx:{path}"
        self.path = Path(path)
        self._session = open_session(self.path)
        meta: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.metadata = meta
        names = _feature_names(self.path, meta)
        self.decide_at: DecideAt = "draft" if names == ALL_NAMES else "prompt"
        self._width, self._state_shape = _check_shapes(self.path, self._session, len(names))
        self._trained_for = _tiers(self.path, meta, self._width)
        self.threshold = _threshold(self.path, meta)
        self.calibration = _calibration(self.path, meta)
        self._dials: dict[float, np.float32] = {}
        self.tiers: tuple[str, ...] = ()
        self._outputs = ["probabilities"] + (["state_out"] if self._state_shape else [])
        self._state: NDArray[np.float32] | None = None

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        """Zero the state. Raises UserError when the file was made for other tiers."""
        names, here = self._trained_for, f"the ladder has {len(tiers)} ({', '.join(tiers)})"
        if names is not None and names != tiers:
            raise UserError(
                f"{self.path} was trained for {len(names)} tiers ({', '.join(names)}) but {here}; "
                "choose a router made for this ladder, or call the tiers so if they are these"
            )
        if self._width not in (1, len(tiers)):
            raise UserError(
                f"{self.path} was trained for {self._width} tiers but {here}; choose a router made "
                "for this ladder"
            )
        self.tiers = tiers
        self._state = np.zeros(self._state_shape, np.float32) if self._state_shape else None

    def decide(self, features: Features) -> Decision:
        """Raises UserError when the network fails or its output is not probabilities."""
        vector = features.vector
        if self.calibration:
            vector = vector.copy()
            vector[_DIAL] = self._network_dial(float(vector[_DIAL]))
        feed = {"features": vector[None, :]}
        if self._state is not None:
            feed["state_in"] = self._state
        try:
            outputs = self._session.run(self._outputs, feed)
        except Exception as error:  # onnxruntime's own exceptions share no base but Exception
            raise UserError(f"{self.path} cannot be run: {first_line(error)}") from error
        if self._state is not None:
            self._state = outputs[1]
        dearer = self._dearer(outputs[0].ravel().tolist())
        tier = next((i for i, p in enumerate(dearer) if p < self.threshold), len(dearer))
        met = tier > 0
        shown = dearer[tier - 1] if met else dearer[0]
        reason = f"p(dearer) {shown:.2f} {'>=' if met else '<'} {self.threshold:.2f}"
        # A single probability knows the cheapest and the dearest tier only.
        chosen = len(self.tiers) - 1 if self._width == 1 and met else tier
        return Decision(chosen, reason, dearer[0], score=dearer[0], thresholds=(self.threshold,))

    def dial_for(self, share: float) -> float:
        """The dial at which about `share` of the steps went to dearer tiers when it was measured.

        Raises UserError when the file was exported without such measurements.
        """
        if not self.calibration:
            raise UserError(
                f"{self.path} was not calibrated for a budget; set --dial instead of --budget"
            )
        dials, _, shares = zip(*self.calibration, strict=True)
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
            dials, inner, _ = zip(*self.calibration, strict=True)
            self._dials[dial] = np.float32(np.interp(dial, dials, inner))
        return self._dials[dial]

    def _dearer(self, output: list[float]) -> list[float]:
        """P(a tier dearer than i is needed) for every tier i but the dearest.

        Plain Python: for a handful of numbers NumPy takes four times as long.
        """
        fits = len(output) == self._width and all(-1e-4 < p < 1 + 1e-4 for p in output)
        if not fits or (self._width > 1 and abs(sum(output) - 1) > 1e-3):
            raise UserError(
                f"{self.path} gives [{' '.join(f'{p:.3g}' for p in output)}], which is not "
                "probabilities; export it with a softmax or sigmoid at the end"
            )
        if self._width == 1:
            return output
        return list(itertools.accumulate(output[:0:-1]))[::-1]


def _feature_names(path: Path, meta: dict[str, str]) -> tuple[str, ...]:
    """What the file reads: NAMES, or ALL_NAMES where it decides at the draft."""
    schema = meta.get("edge_router.schema")
    if not schema:
        raise UserError(
            f"{path} does not say which features it reads (metadata edge_router.schema): "
            "it is not a router of ours; export it with the training tools"
        )
    if schema != SCHEMA:
        raise UserError(
            f"{path} was trained on features {schema!r} but this version computes {SCHEMA!r}; "
            "train it again or use the version it was made with"
        )
    names = _json_names(path, meta, "edge_router.features")
    if names is None or names not in (NAMES, ALL_NAMES):
        raise UserError(
            f"{path} reads other features than {SCHEMA} has: {_difference(names or ())}; "
            "train it again"
        )
    return names


def _difference(names: tuple[str, ...]) -> str:
    missing = [name for name in NAMES if name not in names]
    unknown = [name for name in names if name not in ALL_NAMES]
    told = [f"lacks {', '.join(missing)}"] * bool(missing)
    told += [f"has unknown {', '.join(unknown)}"] * bool(unknown)
    return " and ".join(told) or "the same names in another order or more than once"


def _json_names(path: Path, meta: dict[str, str], key: str) -> tuple[str, ...] | None:
    """A metadata entry that is a JSON list of names, None where it is absent."""
    if key not in meta:
        return None
    try:
        names = parse_json(meta[key])
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: metadata {key} is not a JSON list of names; export it again")
    return tuple(names)


def _check_shapes(path: Path, session: Any, n: int) -> tuple[int, tuple[int, ...]]:
    """(width of `probabilities`, shape of the state or ()); symbolic dimensions count as 1."""
    inputs = {value.name: value for value in session.get_inputs()}
    outputs = {value.name: value for value in session.get_outputs()}
    extra = sorted(set(inputs) - {"features", "state_in"})
    if "features" not in inputs or extra:
        raise _shape_error(path, f"inputs {', '.join(inputs)} instead of features [, state_in]")
    if "probabilities" not in outputs:
        raise _shape_error(path, f"outputs {', '.join(outputs)} without probabilities")
    if inputs["features"].type != "tensor(float)" or _shape(inputs["features"]) != (1, n):
        raise _shape_error(
            path,
            f"an input features of {_described(inputs['features'])} "
            f"instead of tensor(float) [1, {n}]",
        )
    shape = _shape(outputs["probabilities"])
    if outputs["probabilities"].type != "tensor(float)" or not (
        shape == (1,) or (len(shape) == 2 and shape[0] == 1 and shape[1] >= 1)
    ):
        raise _shape_error(
            path,
            f"an output probabilities of {_described(outputs['probabilities'])} "
            "instead of tensor(float) [1, number of tiers]",
        )
    return shape[-1], _check_state(path, inputs.get("state_in"), outputs.get("state_out"))


def _check_state(path: Path, state_in: Any, state_out: Any) -> tuple[int, ...]:
    if state_in is None and state_out is None:
        return ()
    if state_in is None or state_out is None:
        raise _shape_error(path, "only one of state_in and state_out")
    shape = _shape(state_in)
    if state_in.type != "tensor(float)" or not shape or _shape(state_out) != shape:
        raise _shape_error(
            path,
            f"a state_in of {_described(state_in)} and a state_out of {_described(state_out)} "
            "instead of two tensor(float) of one shape",
        )
    return shape


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else 1 for size in value.shape)


def _described(value: Any) -> str:
    return f"{value.type} [{', '.join(str(size) for size in value.shape)}]"


def _shape_error(path: Path, what: str) -> UserError:
    return UserError(f"{path} has {what}; export it with the training tools")


def _tiers(path: Path, meta: dict[str, str], width: int) -> tuple[str, ...] | None:
    """The tiers that the router was trained for; None where it does not say."""
    names = _json_names(path, meta, "edge_router.tiers")
    if width > 1 and names is not None and len(names) != width:
        raise UserError(
            f"{path} names {len(names)} tiers but gives {width} probabilities; export it again"
        )
    return names


def _threshold(path: Path, meta: dict[str, str]) -> float:
    text = meta.get("edge_router.threshold", str(DEFAULT_THRESHOLD))
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise UserError(
            f"{path}: metadata edge_router.threshold is {text!r}, not a number between 0 and 1; "
            "export it again"
        )
    return threshold


def _calibration(path: Path, meta: dict[str, str]) -> Calibration:
    """Rows of the dial's table; () where there is none."""
    if "edge_router.dial" not in meta:
        return ()
    try:
        rows = tuple(
            (float(a), float(b), float(c)) for a, b, c in parse_json(meta["edge_router.dial"])
        )
    except (ValueError, TypeError, OverflowError):
        rows = ()
    dials = [row[0] for row in rows]
    known = all(0 <= value <= 1 for row in rows for value in row)
    if len(rows) < 2 or not known or dials[0] != 0 or dials[-1] != 1 or dials != sorted(set(dials)):
        raise UserError(
            f"{path}: metadata edge_router.dial is not a table of [dial, network's dial, share] "
            "with dials from 0 to 1; export it again"
        )
    return rows
