"""What an ONNX router file says of itself, read and checked before an episode begins.

input   features       float32 (1, n)
output  probabilities  float32 (1, number of tiers): that tier i is the one needed,
                       or (1, 1) or (1,): that the highest tier is needed
input   state_in       optional, float32: zeros at the start of an episode,
output  state_out      then what the last step put out
metadata edge_router.schema     the features' schema, ours or one whose names have changed since
         edge_router.features   JSON list of the features' names, in order; with those of a
                                draft the router is asked when the draft is written
         edge_router.tiers      optional, JSON list of the tiers, low to high
         edge_router.threshold  optional, 0.5 where absent
         edge_router.dial       optional, JSON list of [dial, the network's dial, share of
                                steps it escalated], dials from 0 to 1

This is the one place that imports onnxruntime, with its telemetry off and its log kept silent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_router.errors import UserError
from edge_router.files.data_files import parse_json
from edge_router.router.feature_table import ALL_NAMES, NAMES, RENAMED, SCHEMA, DecideAt, names_now

_NEWER = re.compile(r"IR version|opset", re.IGNORECASE)


def open_session(path: Path) -> Any:
    """An `onnxruntime.InferenceSession` with one thread: the networks are too small to share.

    Raises `UserError` when the file is missing or none that this onnxruntime reads.
    """
    if not path.is_file():
        raise UserError(f"router file {path} does not exist or is not a file; check the path")
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what goes wrong is said in a sentence below
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base but Exception
        raise UserError(_refused(path, str(error), runtime.__version__)) from error


def metadata_of(path: Path, session: Any) -> dict[str, str]:
    """What a file says of itself. Raises UserError when that is no text."""
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} has metadata that are not UTF-8 text; export it again") from error


def first_line(error: Exception) -> str:
    """What an exception of onnxruntime says, without its codes and its source files."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)
    return re.sub(r"/\S+\.(?:cc|h):\d+ .*?(?:\)|\]) ", "", line)


def _runtime() -> Any:
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise UserError(
            f"onnxruntime cannot be loaded ({error}); install edge-router's dependencies again, "
            "or play with a router that needs no file, such as --router low"
        ) from error
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _refused(path: Path, said: str, version: str) -> str:
    if _NEWER.search(said):
        return (
            f"{path} is written in a newer ONNX than onnxruntime {version} reads; "
            "install a newer onnxruntime, or export it again with an older opset"
        )
    return f"{path} is not an ONNX file that can be loaded: {first_line(Exception(said))}"


# -- the file -------------------------------------------------------------------------------------

DEFAULT_THRESHOLD = 0.5

Calibration = tuple[tuple[float, float, float], ...]  # dial, the network's dial, escalation rate


@dataclass(frozen=True)
class RouterFile:
    """A router file whose parts fit each other and the features of this version."""

    path: Path
    session: Any  # onnxruntime.InferenceSession
    metadata: dict[str, str]
    decide_at: DecideAt
    width: int  # of `probabilities`; 1 where only the highest tier's is given
    state_shape: tuple[int, ...]  # () where the network keeps no state
    tiers: tuple[str, ...] | None  # that it was trained for; None where it does not say
    threshold: float
    calibration: Calibration  # rows of the dial's table; () where there is none


def read_router(path: Path) -> RouterFile:
    """Open and check a file. Raises UserError when it is none, or made for other features."""
    session = open_session(path)
    meta: dict[str, str] = metadata_of(path, session)
    names = _feature_names(path, meta)
    width, state_shape = _check_shapes(path, session, len(names))
    return RouterFile(
        path=path,
        session=session,
        metadata=meta,
        decide_at="draft" if names == ALL_NAMES else "prompt",
        width=width,
        state_shape=state_shape,
        tiers=_tiers(path, meta, width),
        threshold=_threshold(path, meta),
        calibration=_calibration(path, meta),
    )


def _feature_names(path: Path, meta: dict[str, str]) -> tuple[str, ...]:
    """What the file reads: NAMES, or ALL_NAMES where it decides at the draft."""
    schema = meta.get("edge_router.schema")
    if not schema:
        raise UserError(
            f"{path} does not say which features it reads (metadata edge_router.schema): "
            "it is not a router of ours; export it with the training tools"
        )
    if schema != SCHEMA and schema not in RENAMED:
        raise UserError(
            f"{path} was trained on features {schema!r} but this version computes {SCHEMA!r}; "
            "train it again or use the version it was made with"
        )
    names = names_now(_json_names(path, meta, "edge_router.features") or (), schema)
    if names not in (NAMES, ALL_NAMES):
        raise UserError(
            f"{path} reads other features than {schema} has: {_difference(names)}; train it again"
        )
    return names


def _difference(names: tuple[str, ...]) -> str:
    missing = [name for name in NAMES if name not in names]
    unknown = [name for name in names if name not in ALL_NAMES]
    faults = [f"lacks {', '.join(missing)}"] * bool(missing)
    faults += [f"has unknown {', '.join(unknown)}"] * bool(unknown)
    return " and ".join(faults) or "the same names in another order or more than once"


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
