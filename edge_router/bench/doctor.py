"""What stands in the way of playing here, and one line of advice for each problem.

Every check is a function that returns findings; nothing is changed and no model is loaded.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final

import click

from edge_router.engine.fingerprint import require_same_model
from edge_router.engine.gguf_file import read_header
from edge_router.engine.ladder import default_context
from edge_router.engine.library import build_line, devices, packages_line
from edge_router.engine.library import features as library_features
from edge_router.engine.machine import cpu_model, physical_cores
from edge_router.engine.openings import any_store
from edge_router.engine.tier_sizes import kv_bytes
from edge_router.engine.trust import ladder_fingerprint, require_promised
from edge_router.errors import UserError
from edge_router.files.folders import cache_folder, data_folder
from edge_router.ladders.costs import ladder_profile, profile_path
from edge_router.ladders.ladder_file import LadderFile
from edge_router.ladders.resolve import resolve
from edge_router.results.machine import available_bytes, load_average, memory_bytes
from edge_router.screen.printable import columns, one_line, say, wrapped
from edge_router.tasks.protocol import Finding
from edge_router.tasks.registry import tasks

EXTRAS: Final = {"textual": "the app", "matplotlib": "--plot", "torch": "training",
                 "gguf": "--shape and convert", "distributed": "--dask"}  # fmt: skip
_DISK_LOW: Final = 2_000_000_000


def examine(ladder: LadderFile) -> Iterator[Finding]:
    """All findings, from the machine upwards."""
    yield from _build()
    yield from _processor()
    yield from _memory(ladder)
    for task in tasks():
        yield from task.examine()
    yield from _costs(ladder)
    yield from _folders()
    yield from _openings()
    yield from _extras()


# -- machine ------------------------------------------------------------------------------------


def _build() -> Iterator[Finding]:
    try:
        line, features = build_line(), library_features()
    except UserError as error:
        yield Finding("build", packages_line(), str(error), stops=True)
        return
    on = {name for name, value in features.items() if value != "0"}
    advice = ""
    if "AMX_INT8" in on and os.environ.get("EDGE_ROUTER_AMX") != "1":
        advice = (
            "built with AMX, which GCC before 13.3 miscompiles, so fast kernels are off; build"
            " again with make, or set EDGE_ROUTER_AMX=1 if your compiler is sound"
        )
    elif not on & {"AVX2", "NEON"} and not devices():
        advice = "no vector instructions were compiled in: reinstall llama-cpp-python from source"
    yield Finding("build", line, advice)
    cpu = _cpu_flags()
    missing = [n for n, flag in _CPU_FLAGS.items() if flag in cpu and n not in on]
    if missing:
        yield Finding(
            "kernels",
            f"the processor has {', '.join(missing)} and llama.cpp was built without",
            "build llama.cpp on this machine: pip install --no-binary :all: llama-cpp-python",
        )


_CPU_FLAGS: Final = {"AVX2": "avx2", "AVX512": "avx512f", "AVX512_VNNI": "avx512_vnni"}


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            line = next((x for x in file if x.startswith("flags")), "")
    except OSError:
        return set()
    return set(line.partition(":")[2].split())


def _processor() -> Iterator[Finding]:
    cores, load = physical_cores(), load_average()
    found = f"{cpu_model()}, {cores} cores for this process, load {load}"
    advice = ""
    if load is not None and load > cores:
        advice = (
            "other programs want the cores: a run goes on with the threads that they leave, and"
            " slower; measure when the machine is idle"
        )
    yield Finding("processor", found, advice)


def _memory(ladder: LadderFile) -> Iterator[Finding]:
    free, total = available_bytes(), memory_bytes()
    yield Finding("memory", f"{free / 1e9:.1f} GB free of {total / 1e9:.1f}")
    name = ladder.name or "given tiers"
    try:
        headers = [read_header(spec.path) for spec in ladder.tiers]
        require_same_model(headers)
        for spec in ladder.tiers:  # every byte: that it was right once is not enough here
            require_promised(spec, remembered=False)
    except UserError as error:
        yield Finding(f"ladder {name}", str(error), "name another --model or --tier", stops=True)
        return
    n_ctx = default_context(ladder.tiers)
    needed = sum(h.size_bytes + kv_bytes(h, n_ctx) for h in headers)
    tiers = ", ".join(
        f"{spec.name} {h.size_bytes / 1e6:.0f} MB"
        for spec, h in zip(ladder.tiers, headers, strict=True)
    )
    needs = f"{tiers}; with KV for {n_ctx} tokens {needed / 1e9:.2f} GB"
    fits = needed < free
    advice = "" if fits else "give fewer tiers, a smaller --ctx, or close other programs"
    yield Finding(f"ladder {name}", needs, advice, stops=not fits)


# -- files ----------------------------------------------------------------------------------------


def _costs(ladder: LadderFile) -> Iterator[Finding]:
    try:
        fingerprint = ladder_fingerprint(ladder.tiers)
        profile = ladder_profile(ladder.name, fingerprint)
    except (OSError, UserError) as error:
        yield Finding("costs", str(error), "run edge-router calibrate")
        return
    if profile is None:
        yield Finding("costs", "this ladder was never calibrated", "run edge-router calibrate")
        return
    here = profile.machine.get("cpu") in (None, cpu_model())
    path = profile_path(ladder.name, fingerprint)
    yield Finding(
        "costs",
        f"calibrated {profile.created}, {path}",
        "" if here else "calibrated on another processor: run edge-router calibrate again",
    )


def _folders() -> Iterator[Finding]:
    for what, place in (("data", data_folder), ("cache", cache_folder)):
        try:
            folder = place()
        except UserError as error:
            yield Finding(f"{what} folder", "there is none", str(error))
            continue
        above = next(f for f in (folder, *folder.absolute().parents) if os.path.isdir(f))
        free = shutil.disk_usage(above).free
        advice = ""
        if not os.access(above, os.W_OK):
            advice = "it cannot be written: set EDGE_ROUTER_HOME to a folder of yours"
        elif free < _DISK_LOW:
            advice = "little room is left: make some, or set EDGE_ROUTER_HOME to another disk"
        yield Finding(f"{what} folder", f"{folder}, {free / 1e9:.1f} GB free", advice)


def _openings() -> Iterator[Finding]:
    try:
        store = any_store()
    except UserError as error:
        yield Finding("openings", "none can be kept", str(error))
        return
    if store is not None:
        yield Finding("openings", store.kept().sentence())


def _extras() -> Iterator[Finding]:
    found = {p: importlib.util.find_spec(p) is not None for p in EXTRAS}
    there = [f"{p} ({EXTRAS[p]})" for p, yes in found.items() if yes]
    absent = [f"{p} ({EXTRAS[p]})" for p, yes in found.items() if not yes]
    extras = f"installed: {', '.join(there) or 'none'}"
    extras += f"; not: {', '.join(absent)}" if absent else ""
    yield Finding("optional", extras)


# -- the command ---------------------------------------------------------------------------------


def run_doctor(model: str | None, tiers: Sequence[str], *, as_json: bool) -> int:
    """0 when a game can be played, 1 when something stands in the way."""
    findings = list(examine(resolve(model, tiers)))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "STOP" if finding.stops else " !  " if finding.advice else " ok "
            _say(f"[{mark}] {finding.what}: {finding.found}", "")
            if finding.advice:
                _say(f"-> {finding.advice}", " " * len("[STOP] "))
    return int(any(finding.stops for finding in findings))


def _say(text: str, indent: str) -> None:
    """The text on as many lines as the screen needs; a pipe gets one."""
    width = columns()
    if width is None:
        say(indent + one_line(text))
        return
    say("\n".join(wrapped(text, width, indent=indent, hanging=" " * len("[STOP] "))))
