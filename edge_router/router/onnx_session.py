"""The one place that imports onnxruntime, with its telemetry off and its log kept silent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edge_router.errors import UserError

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
