"""`advise`: measures precisions of a shape on a few layers, and says which two to convert to.

Each precision is kept as soon as it is measured: after Ctrl-C the same command goes on. What is
finished is measured anew the next time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from edge_router.bench.advice import (
    AdvisedPair,
    Assumptions,
    alone,
    by_cores,
    command,
    routed,
    verdict,
    with_bandwidth,
)
from edge_router.bench.candidates import (
    BATCHES,
    CONTEXT,
    READ,
    Candidate,
    LayerBench,
    measuring,
)
from edge_router.bench.roofline import CoresAndMemory
from edge_router.bench.shapes import find_shape, known_precisions
from edge_router.bench.speed import tell
from edge_router.bench.synthetic import Shape
from edge_router.bench.timing import copy_bandwidth
from edge_router.engine.gguf_file import EMBEDDING, GgufHeader, read_header
from edge_router.engine.machine import cpu_model, physical_cores
from edge_router.errors import UserError
from edge_router.files.data_files import read_object
from edge_router.files.folders import cache_folder
from edge_router.files.whole import write_text
from edge_router.ladders.catalogue import catalogue
from edge_router.ladders.resolve import find_ladder
from edge_router.results.file import results
from edge_router.results.machine import available_bytes
from edge_router.results.outputs import Outputs
from edge_router.work.progress import Progress, ShownProgress
from edge_router.work.store import key_of

CANDIDATES: Final = (
    *("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "iq4_nl", "q3_k_m", "q2_k", "iq1_s"),
)
DEFAULT_SHAPE: Final = "qwen3-0.6b"


@dataclass(frozen=True)
class AdviceOptions:
    """How it is measured, and what is assumed."""

    threads: int | None = None
    repeats: int = 3
    bandwidth: float | None = None  # GB/s of another machine's memory
    assumptions: Assumptions = field(default_factory=Assumptions)


def run_advise(
    model: str | None,
    shape: str | None,
    precisions: str | None,
    options: AdviceOptions,
    outputs: Outputs,
) -> int:
    """Measure, show; returns the exit code."""
    outputs.check()
    subject = find_dimensions(model, shape)
    wanted = known_precisions(precisions) if precisions else CANDIDATES
    threads = options.threads or physical_cores()  # fixed: what others do must not change it
    data = results("advice", {}, {}, threads=threads)  # the load before the measurement
    kept = UnfinishedAdvice(_place(subject, threads, options.repeats))
    with (
        ShownProgress() as progress,
        measuring(subject, threads=threads, repeats=options.repeats) as bench,
    ):
        try:
            found = _measured(bench, wanted, kept, progress)
        except KeyboardInterrupt:
            done = sum(name in kept.known for name in wanted)
            tell(
                f"edge-router: interrupted: {done} of {len(wanted)} precisions are kept in"
                f" {kept.path}; the same command goes on from there"
            )
            return 130
    candidates = [found[name] for name in wanted]
    data["settings"] = _settings(subject, candidates, options, kept)
    machine = with_bandwidth(
        CoresAndMemory(threads, *kept.bandwidth), options.bandwidth and 1e9 * options.bandwidth
    )
    data["tables"] = _tables(candidates, machine, options.assumptions)
    outputs.write(data)
    kept.path.unlink(missing_ok=True)
    return 0


# -- what is measured -----------------------------------------------------------------------------


def find_dimensions(model: str | None, shape: str | None) -> Shape:
    """The shape by name, or that of a model that is here. Raises `UserError`."""
    if model is not None and shape is not None:
        raise UserError("--shape and --model exclude each other; give one of them")
    if model is None:
        return find_shape(shape or DEFAULT_SHAPE)
    return shape_of(read_header(find_ladder(model).tiers[-1].path), model)


def shape_of(header: GgufHeader, name: str) -> Shape:
    """A file's dimensions. Raises `UserError` for an architecture that is not measured."""
    kind = header.architecture
    embedding = header.tensors.get(EMBEDDING)
    if kind not in ("qwen3", "llama") or embedding is None:
        raise UserError(
            f"{header.path} is of the architecture {kind!r}, and advise knows qwen3 and llama;"
            " name a shape of about its size with --shape"
        )

    def number(key: str, usual: int = 0) -> int:
        said = header.metadata.get(f"{kind}.{key}", "")
        return int(said) if said.isdecimal() else usual

    width, heads = number("embedding_length"), number("attention.head_count", 1)
    return Shape(
        *(name, kind, width, number("block_count"), heads),
        *(number("attention.head_count_kv", heads), number("attention.key_length", width // heads)),
        *(number("feed_forward_length"), embedding.shape[1], number("context_length", 4096)),
        rope_base=float(header.metadata.get(f"{kind}.rope.freq_base", 1e4)),
    )


def _measured(
    bench: LayerBench, wanted: Sequence[str], kept: UnfinishedAdvice, progress: Progress
) -> dict[str, Candidate]:
    """All candidates, the memory's speed, and one whole model to compare with."""
    missing = [name for name in wanted if name not in kept.known]
    total = len(wanted) + 2
    step = progress(f"precisions of {bench.shape.name}", total, len(wanted) - len(missing))
    if not kept.bandwidth:
        kept.bandwidth = list(copy_bandwidth(bench.threads))
        kept.save()
    step()
    for name in missing:
        kept.known[name] = bench.candidate(name)
        kept.save()
        step()
    if not kept.checked:
        kept.checked = _check(bench, [kept.known[name] for name in wanted])
        kept.save()
    step()
    return kept.known


def _check(bench: LayerBench, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """One whole model measured beside its estimate; nothing where memory does not suffice."""
    quickest = min(candidates, key=lambda c: c.times.decode)
    if 1.5 * (quickest.weight_bytes + quickest.kv_bytes) > available_bytes():
        return {"precision": ""}
    estimated, measured = quickest.times, bench.whole(quickest.precision)
    return {
        "precision": quickest.precision,
        "decode_s": [estimated.decode, measured.decode],
        "prefill_s": [estimated.prefill, measured.prefill],
    }


# -- what is kept ---------------------------------------------------------------------------------


class UnfinishedAdvice:
    """What an interrupted run has measured; empty for the first one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, Candidate] = {}
        self.bandwidth: list[float] = []
        self.checked: dict[str, Any] = {}
        if path.is_file():
            self._read()

    def _read(self) -> None:
        try:
            data = read_object(self.path, "measurements of advise")
            self.known = {c["precision"]: Candidate.of(c) for c in data["candidates"]}
            self.bandwidth, self.checked = list(data["bandwidth"]), dict(data["checked"])
        except (UserError, LookupError, TypeError, ValueError):
            return  # damaged: measured again
        tell(f"going on with {len(self.known)} precisions that were measured before")

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data: dict[str, Any] = {"candidates": [c.plain() for c in self.known.values()]}
        data |= {"bandwidth": self.bandwidth, "checked": self.checked}
        write_text(self.path, json.dumps(data), durable=False)


def _place(shape: Shape, threads: int, repeats: int) -> Path:
    build = metadata.version("llama-cpp-python")
    parts = {"shape": asdict(shape), "cpu": cpu_model(), "threads": threads, "build": build}
    parts["batches"] = BATCHES
    return cache_folder() / "advice" / f"{key_of(parts | {'repeats': repeats})[:16]}.json"


# -- what is shown --------------------------------------------------------------------------------


def _settings(
    shape: Shape, candidates: Sequence[Candidate], options: AdviceOptions, kept: UnfinishedAdvice
) -> dict[str, Any]:
    return {
        "model": shape.name,
        "verdict": verdict(candidates, options.assumptions, shape.name),
        "command": command(
            candidates, options.assumptions, shape.name, known=shape.name in catalogue()
        ),
        "assumed": asdict(options.assumptions),
        "layers": shape.layers,
        "prefill": READ,
        "context": CONTEXT,
        "repeats": options.repeats,
        "bandwidth_gb": options.bandwidth or kept.bandwidth[1] / 1e9,
        "bandwidth_given": options.bandwidth is not None,
        "checked": kept.checked,
    }


def _tables(
    candidates: Sequence[Candidate], machine: CoresAndMemory, assumed: Assumptions
) -> dict[str, list[dict[str, Any]]]:
    pair = AdvisedPair.best(candidates, assumed)
    rows = [
        {
            "precision": c.precision,
            "size_bytes": c.weight_bytes,
            "memory_bytes": c.weight_bytes + c.kv_bytes,
            "prefill_tokens": READ,
            "prefill_s": c.times.prefill,
            "decode_s": c.times.decode,
            "verify": dict(zip(map(str, BATCHES), c.times.verify, strict=True)),
            "step_s": alone(c.times, assumed),
            "routed_s": None
            if c is pair.high or c.weight_bytes >= pair.high.weight_bytes
            else routed(c.times, pair.high.times, assumed),
        }
        for c in candidates
    ]
    return {"candidates": rows, "cores": by_cores(candidates, machine, assumed)}
