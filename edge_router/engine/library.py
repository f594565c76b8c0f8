"""llama.cpp's shared library: loaded on first use, silenced, asked what it is."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections import deque
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from typing import Any, Final

from edge_router import __version__
from edge_router.engine import stop_flag
from edge_router.errors import UserError

_PATH: Final = "LLAMA_CPP_LIB_PATH"  # llama-cpp-python's: where else to look for the library
_WRITTEN: Final = {"OPENMP": "OpenMP", "REPACK": "repacking", "LLAMAFILE": "llamafile"}

_GPUS: Final = (1, 2)  # ggml's types of devices with memory of their own, or the system's

_ERROR_LEVEL: Final = 4  # ggml_log_level: 1 debug, 2 info, 3 warn, 4 error, 5 continues
_CONTINUES: Final = 5


class LibraryLog:
    """Keeps llama.cpp's last error lines, and all lines while a capture is on.

    llama.cpp logs hundreds of lines a load, in pieces: a line may come in several calls, and a
    call may hold several lines.
    """

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.captured: list[str] | None = None
        self._line = ""
        self._level = 0
        self.callback: Any = None  # llama.cpp holds a bare pointer; this keeps it alive

    def receive(self, level: int, text: bytes | None, _data: object) -> None:
        if level < _ERROR_LEVEL and self.captured is None:
            return
        if level not in (_CONTINUES, self._level):
            self._keep(self._line)  # what was begun at another level ends here
            self._line, self._level = "", level
        *lines, self._line = (self._line + (text or b"").decode("utf-8", "replace")).split("\n")
        for line in lines:
            self._keep(line)

    def _keep(self, line: str) -> None:
        if self.captured is not None and line:
            self.captured.append(line)
        if self._level == _ERROR_LEVEL and line.strip():
            self.errors.append(line.strip())

    @contextlib.contextmanager
    def capture(self) -> Iterator[list[str]]:
        lines: list[str] = []
        self.captured = lines
        try:
            yield lines
        finally:
            self.captured = None

    def reason(self) -> str:
        """The first thing that went wrong since the last `clear`, without its function name."""
        for line in self.errors:
            return re.sub(r"^\w+: (error loading model: )?", "", line)
        return "it gives no reason"


library_log = LibraryLog()


@cache
def library() -> Any:
    """llama-cpp-python's low-level bindings. Raises `UserError` when they cannot be loaded."""
    try:
        import llama_cpp.llama_cpp as api
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise UserError(_unloadable(error)) from error
    library_log.callback = api.llama_log_callback(library_log.receive)
    api.llama_log_set(library_log.callback, None)
    stop_flag.keep(library_log.receive)
    api.llama_backend_init()
    return api


def _unloadable(error: Exception) -> str:
    """The bindings raise one of four exceptions, by what is wrong with the shared library."""
    named = os.environ.get(_PATH)
    if named is not None:
        remedy = f"{_PATH} is set to {named!r}: unset it, so that the library is used that was "
        remedy += "built with llama-cpp-python"
    else:
        remedy = "install what it names, or build llama-cpp-python again on this machine"
    why = " ".join(str(error).split())
    return f"llama.cpp cannot be loaded ({why}); {remedy}"


def features() -> dict[str, str]:
    """What llama.cpp was compiled with and its value ("1", "0"), as the library names it."""
    said: bytes = library().llama_print_system_info()
    return dict(re.findall(r"(\w+) = (\S+)", said.decode()))


def devices() -> list[str]:
    """What it computes on besides the CPU, such as "Metal" or "CUDA"."""
    said: bytes = library().llama_print_system_info()
    return [name for name in re.findall(r"(\w+) : ", said.decode()) if name != "CPU"]


def compiled_with() -> list[str]:
    """Devices and features that are switched on, in words: "AVX2", "FMA", "OpenMP"."""
    on = [name for name, value in features().items() if value == "1"]
    return [*devices(), *(_WRITTEN.get(name, name) for name in on)]


def offloads() -> bool:
    """Whether this build can compute layers on a GPU that is there."""
    return bool(library().llama_supports_gpu_offload())


def gpu_memory() -> int | None:
    """Free bytes of all GPUs together; None where one does not tell."""
    lib = library()._lib
    get, kind, memory = (getattr(lib, f"ggml_backend_dev_{x}") for x in ("get", "type", "memory"))
    lib.ggml_backend_dev_count.restype = ctypes.c_size_t
    get.argtypes, get.restype = [ctypes.c_size_t], ctypes.c_void_p
    kind.argtypes, kind.restype = [ctypes.c_void_p], ctypes.c_int
    size = ctypes.POINTER(ctypes.c_size_t)
    memory.argtypes, memory.restype = [ctypes.c_void_p, size, size], None
    free, total, sum_free = ctypes.c_size_t(), ctypes.c_size_t(), 0
    for device in map(get, range(lib.ggml_backend_dev_count())):
        if kind(device) not in _GPUS:
            continue
        memory(device, ctypes.byref(free), ctypes.byref(total))
        if total.value == 0:
            return None
        sum_free += free.value
    return sum_free


def build_line() -> str:
    """Versions of edge-router, llama-cpp-python and llama.cpp, and what that was compiled with.

    For `--version`, `doctor` and results alike. Raises `UserError` when the library cannot be
    loaded.
    """
    return f"{packages_line()}, {library_line()}"


def library_line() -> str:
    """The part of `build_line` that is about the library."""
    api = library()
    commit = _commit(api)
    return (
        f"llama.cpp {api.llama_version().decode()}"
        f"{f' (commit {commit})' if commit else ''}, "
        f"compiled with {', '.join(compiled_with()) or 'plain kernels'}"
    )


def packages_line() -> str:
    """The part of `build_line` that needs no library."""
    try:
        wrapper = metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:
        wrapper = "missing"
    return f"edge-router {__version__}, llama-cpp-python {wrapper}"


def _commit(api: Any) -> str:
    """The commit of llama.cpp that was built, "" where the library does not know it."""
    ask = getattr(api._lib, "ggml_commit", None)
    if ask is None:
        return ""
    ask.restype = ctypes.c_char_p
    said = (ask() or b"").decode()
    return "" if said == "unknown" else said
