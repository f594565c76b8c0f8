"""Install llama-cpp-python so that its long, silent build is neither silent nor a surprise.

There is no binary package of it: pip compiles llama.cpp. This script switches
off the parts that edge-router never calls, says beforehand how long the build
takes, turns thousands of compiler lines into a few lines of progress, and
leaves the full log in a file. The built wheel is kept under ~/.cache/edge-router,
so a second environment on the same machine installs in seconds.

    python tools/install_llama.py constraints.txt

is run by `make` with the environment's own Python, on Linux and macOS.
CMAKE_ARGS in the environment is added after our flags (so it wins), for
example CMAKE_ARGS=-DGGML_CUDA=ON, and kept for later calls without it.

pip's own cache of built wheels is not used: it tells neither flags nor
processors apart, and the wheel it may hold of another project's build can
be one that crashes here. Ours is keyed by both.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final, TextIO

# The one place for the measured build time: 2 cores, the flags below, nothing cached.
BUILD_TIME: Final = "about 3 minutes on 2 cores, less on more"

# Off: multimodal input (never used), HTTPS model download, and warnings about llama.cpp's own
# code. OpenMP stays on, llama.cpp's default: docs/measurements.md has both builds side by side.
FLAGS: Final = (
    "-DLLAVA_BUILD=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_ALL_WARNINGS=OFF",
)
# GCC before 12.4 and 13.3 miscompiles AMX's tile configuration (its bug 114098) and the first
# decode of a quantised model then ends the process; Debian 12 ships such a compiler. The AVX-512
# kernels that are used instead are sound.
NO_AMX: Final = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
PACKAGE: Final = "llama-cpp-python"
NINJA: Final = re.compile(r"^\s*\[\s*(\d+)/(\d+)\]")
TAIL: Final = 30  # lines of the log shown after a failure


class BuildProgress:
    """Turns pip's verbose output into progress: one live line on a terminal, else every 10 %."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.live = out.isatty()
        self.start = time.monotonic()
        self.shown = -1  # percent of the last line written

    def line(self, text: str) -> None:
        """Take one line of pip's output."""
        if text.lstrip().startswith("Building wheels for collected packages"):
            self.say(f"Compiling llama.cpp; this takes {BUILD_TIME}, once per machine.")
        elif found := NINJA.match(text):
            self.count(int(found[1]), int(found[2]))

    def count(self, done: int, total: int) -> None:
        """Show that `done` of `total` build steps are done."""
        percent = 100 * done // max(total, 1)
        step = percent if self.live else percent // 10 * 10
        if step <= self.shown:
            return
        self.shown = step
        seconds = int(time.monotonic() - self.start)
        text = f"  llama.cpp: {done}/{total} files, {percent} %, {seconds // 60}:{seconds % 60:02}"
        self.out.write(f"\r{text}\x1b[K" if self.live else f"{text}\n")
        self.out.flush()

    def say(self, text: str) -> None:
        """Write a line of its own."""
        if self.live and self.shown >= 0:
            self.out.write("\n")
            self.shown = -1
        self.out.write(text + "\n")
        self.out.flush()


def pinned_version(constraints: str) -> str:
    """The version of llama-cpp-python that a constraints file's text pins."""
    found = re.search(rf"^{PACKAGE}==(\S+)", constraints, re.MULTILINE)
    if found is None:
        raise SystemExit(f"The constraints file pins no {PACKAGE}; add {PACKAGE}==VERSION to it.")
    return found[1]


def installed_version() -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None


def build_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with our CMake flags before the user's and every core put to work."""
    own = environ.get("CMAKE_ARGS", "")
    built = {
        "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
        **environ,
        "CMAKE_ARGS": " ".join([*FLAGS, own]).strip(),
    }
    if knows_amx(environ):
        for name in ("CFLAGS", "CXXFLAGS"):
            built[name] = f"{environ.get(name, '')} {NO_AMX}".strip()
    return built


def knows_amx(environ: Mapping[str, str]) -> bool:
    """Whether the C compiler is one for x86 that AMX can be switched off for."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    compiler = (environ.get("CC") or "cc").split()
    command = [*compiler, *NO_AMX.split(), "-E", "-x", "c", os.devnull]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def stream(lines: Iterable[str], log: TextIO, progress: BuildProgress) -> deque[str]:
    """Copy `lines` to `log`, show progress, and return the last of them."""
    tail: deque[str] = deque(maxlen=TAIL)
    for line in lines:
        log.write(line)
        tail.append(line)
        progress.line(line)
    return tail


def require_compiler(environ: Mapping[str, str]) -> None:
    """Exit with one sentence where there is no C++ compiler; pip itself brings cmake and ninja."""
    names = [environ.get("CXX", ""), "c++", "g++", "clang++"]
    if not any(shutil.which(name.split()[0]) for name in names if name.strip()):
        raise SystemExit(
            "llama.cpp is compiled on this machine and no C++ compiler was found: install one "
            "(Debian, Ubuntu: apt install build-essential; Fedora: dnf install gcc-c++; "
            "macOS: xcode-select --install) and run make again."
        )


def run_pip(arguments: Sequence[str], log_path: Path) -> None:
    """Run pip into a log; on failure show the log's end and its path, and exit with pip's code."""
    progress = BuildProgress(sys.stdout)
    with (
        log_path.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "pip", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=build_environment(os.environ),
        ) as process,
    ):
        assert process.stdout is not None
        tail = stream(process.stdout, log, progress)
    if process.returncode == 0:
        if progress.shown >= 0:
            progress.say(f"Built in {time.monotonic() - progress.start:.0f} s.")
        return
    progress.say("".join(["\n", *tail]))
    progress.say(f"Installing {PACKAGE} failed; the lines above are the end of {log_path}.")
    raise SystemExit(process.returncode)


def processor() -> str:
    """What the compiler makes of "native": a wheel built here may not run on another processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # macOS
        lines = []
    features = next((x for x in lines if x.lower().startswith(("flags", "features"))), "")
    return f"{platform.machine()} {features}"


def wheel_folder(version: str, environ: Mapping[str, str]) -> Path:
    """Where the wheel built with these flags on this processor is kept."""
    flags = [environ.get(name, "") for name in ("CMAKE_ARGS", "CFLAGS", "CXXFLAGS", "CC", "CXX")]
    key = hashlib.sha256("\0".join([*flags, processor()]).encode()).hexdigest()[:12]
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "edge-router" / f"{PACKAGE}-{version}-{key}"


def wheel_in(folder: Path, version: str, constraints: str, log: Path) -> Path:
    """The wheel in `folder`, built first where it is not there yet."""
    if not any(folder.glob("*.whl")):
        require_compiler(os.environ)
        print(f"Building {PACKAGE} {version} from source (a download of 75 MB).", flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            building = Path(scratch) / folder.name
            command = ["wheel", "-v", "--no-cache-dir", "--no-deps", "--progress-bar=off"]
            command += ["-c", constraints, "-w", str(building), f"{PACKAGE}=={version}"]
            run_pip(command, log)
            os.replace(building, folder)
    return next(folder.glob("*.whl"))


def main(argv: list[str]) -> None:
    """Install the pinned version unless it is there already, built with the wanted flags."""
    version = pinned_version(Path(argv[0]).read_text(encoding="utf-8"))
    notes = Path(sys.prefix) / "llama-build.json"  # what the installed build was made with
    built = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    # No CMAKE_ARGS means "as it is": a CUDA build survives a plain `make play` afterwards.
    wanted = os.environ.get("CMAKE_ARGS", "").strip() or built.get("cmake_args", "")
    os.environ["CMAKE_ARGS"] = wanted
    folder = wheel_folder(version, build_environment(os.environ))
    if installed_version() == version and built.get("wheel") == folder.name:
        return
    wheel = wheel_in(folder, version, argv[0], Path(sys.prefix) / "llama-build.log")
    print(f"Installing {PACKAGE} {version} from {folder}.", flush=True)
    log = Path(sys.prefix) / "llama-install.log"
    run_pip(["install", "-v", "--no-deps", "--force-reinstall", str(wheel)], log)
    noted = {"cmake_args": wanted, "wheel": folder.name}
    notes.write_text(json.dumps(noted) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        raise SystemExit(130) from None
