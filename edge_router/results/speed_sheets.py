"""The sheets of a speed measurement, of a calibration and of an advice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from edge_router.results.file import Row
from edge_router.screen.tables import Sheet

BUSY: Final = 0.5  # load average above which figures are said to be too low
_LOOPS: Final = {
    "raw": "llama_decode",
    "llama_generate": "Llama.generate",
    "llama_completion": "Llama.create_completion",
}


def speed_sheets(data: Mapping[str, Any]) -> list[Sheet]:
    """All sheets of a results file of the kind "speed"."""
    tables = data["tables"]
    sheets = [_tiers(tables["tiers"]), _loops(tables["loops"])]
    if tables["handoff"]:
        sheets.append(_handoff(tables["handoff"]))
    return [*sheets, _decisions(tables["decisions"])]


def thread_sheets(data: Mapping[str, Any]) -> list[Sheet]:
    """All sheets of a results file of the kind "threads"."""
    settings = data["settings"]
    columns = (
        *("tier", "threads", f"prefill {settings['prefill']} tok/s"),
        f"decode {settings['decode']} tok/s",
    )
    cells = [
        (r["tier"], str(r["threads"]), _spread(r["prefill"]), _spread(r["decode"]))
        for r in data["tables"]["threads"]
    ]
    return [Sheet("Speed by the number of threads (mean ± sd)", columns, cells)]


def _tiers(rows: Sequence[Row]) -> Sheet:
    first = rows[0]
    columns = (
        *("tier", "GB", "load s", "memory GB"),
        *(f"prefill {first['prefill_tokens']} tok/s", f"decode {first['decode_tokens']} tok/s"),
        *("n", "J/token prefill", "J/token decode"),
    )
    cells = [
        (
            *(r["tier"], f"{r['size_bytes'] / 1e9:.3f}", f"{r['load_s']:.2f}"),
            *(f"{r['resident_bytes'] / 1e9:.3f}", _spread(r["prefill"]), _spread(r["decode"])),
            *(str(r["prefill"]["n"]), _joules(r["prefill_j"]), _joules(r["decode_j"])),
        )
        for r in rows
    ]
    return Sheet("Speed of each tier alone (mean ± sd)", columns, cells)


def _loops(rows: Sequence[Row]) -> Sheet:
    columns = ["tier", "ours tok/s"]
    for name in _LOOPS.values():
        columns += [f"{name} tok/s", "ours/it"]
    cells = []
    for r in rows:
        line = [r["tier"], _spread(r["ours"])]
        for key in _LOOPS:
            if r[key] is None:
                line += ["ended early", ""]
            else:
                line += [_spread(r[key]), f"{r['ratio'][key]:.3f}"]
        cells.append(tuple(line))
    tokens = rows[0]["tokens"]
    title = f"Our loop and others, {tokens} tokens, taken in turn (mean ± sd, median ratio)"
    return Sheet(title, tuple(columns), cells)


def _handoff(rows: Sequence[Row]) -> Sheet:
    first = rows[0]
    columns = (
        *("tokens", "handoff ms", f"prefill on {first['to']} ms", "times faster"),
        f"prefill on {first['from']} ms",
    )
    cells = [
        (
            *(str(r["tokens"]), _spread(r["handoff_ms"], 2), _spread(r["prefill_ms"])),
            *(f"{r['speedup']:.0f}", _spread(r["low_prefill_ms"])),
        )
        for r in rows
    ]
    title = f"Handoff {first['from']} -> {first['to']} against prefill (mean ± sd, median ratio)"
    return Sheet(title, columns, cells, 0)


def _decisions(rows: Sequence[Row]) -> Sheet:
    cells = [(r["what"], f"{r['median_us']:.1f}", f"{r['p99_us']:.1f}") for r in rows]
    return Sheet("A decision, microseconds", ("what", "median", "p99"), cells)


def _spread(sample: Row, digits: int = 1) -> str:
    return f"{sample['mean']:.{digits}f} ± {sample['sd']:.{digits}f}"


def _joules(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def speed_notes(data: Mapping[str, Any]) -> list[str]:
    """What a reader must know about the figures."""
    notes = []
    load = data["machine"].get("load_average")
    if load is not None and load > BUSY:
        notes.append(f"the machine was busy (load {load}): figures taken now are too low")
    if data["settings"].get("random_weights"):
        notes.append("random weights at the model's exact shape; speed does not depend on them")
    return notes


def calibration_sheets(data: Mapping[str, Any]) -> list[Sheet]:
    """All sheets of a results file of the kind "calibration"."""
    tiers, ladder = data["tables"]["tiers"], data["tables"]["ladder"][0]
    first = tiers[0]
    columns = (
        *("tier", "context", *(f"prefill {span} ms" for span in first["spans"]), "decode ms/token"),
        "a step alone ms",
    )
    cells = []
    for r in tiers:
        for depth, prefill, decode in zip(r["depths"], r["prefill_s"], r["decode_s"], strict=True):
            step = f"{1e3 * r['step_s']:.1f}" if depth == r["depths"][0] else ""
            times = [f"{1e3 * t:.2f}" for t in (*prefill, decode)]
            cells.append((r["name"], str(depth), *times, step))
    handoff = ((f"{1e3 * ladder['handoff_call_s']:.3f}", f"{1e6 * ladder['handoff_token_s']:.2f}"),)
    return [
        Sheet("What a tier costs", columns, cells),
        *_verification_sheets(tiers),
        Sheet("What a handoff costs", ("a call ms", "a token µs"), handoff, 0),
    ]


def _verification_sheets(tiers: Sequence[Row]) -> Iterator[Sheet]:
    """Drafts verified in a batch, and how many times cheaper that is than decoding them."""
    measured = [r for r in tiers if r.get("drafts")]
    if not measured:
        return
    drafts = measured[0]["drafts"]
    cells = []
    for r in measured:
        for depth, verify, decode in zip(r["depths"], r["verify_s"], r["decode_s"], strict=True):
            times = (
                f"{1e3 * t:.2f} ({n * decode / t:.1f}x)"
                for n, t in zip(r["drafts"], verify, strict=True)
            )
            cells.append((r["name"], str(depth), *times))
    columns = ("tier", "context", *(f"{n} tokens ms" for n in drafts))
    yield Sheet("What verifying a draft costs (times cheaper than decoding it)", columns, cells)


def calibration_notes(data: Mapping[str, Any]) -> list[str]:
    """Which tiers are worth having, where the profile lies, and whether to trust it."""
    settings = data["settings"]
    if settings.get("predicted"):
        return [settings["predicted"]]
    return [settings["verdict"], *settings["warnings"], *speed_notes(data)]


# -- advice ---------------------------------------------------------------------------------------


def advice_sheets(data: Mapping[str, Any]) -> list[Sheet]:
    """All sheets of a results file of the kind "advice"."""
    return [_candidates(data["tables"]["candidates"]), _cores(data["tables"]["cores"])]


def _candidates(rows: Sequence[Row]) -> Sheet:
    batches = list(rows[0]["verify"]) if rows else []
    columns = (
        *("precision", "GB", "with KV", "prefill tok/s", "decode tok/s"),
        *(f"verify {n} ms" for n in batches),
        *("step alone s", "routed s"),
    )
    cells = [
        (
            *(r["precision"], f"{r['size_bytes'] / 1e9:.2f}", f"{r['memory_bytes'] / 1e9:.2f}"),
            *(f"{r['prefill_tokens'] / r['prefill_s']:.0f}", f"{1 / r['decode_s']:.1f}"),
            *(f"{1e3 * r['verify'][n]:.0f}" for n in batches),
            *(f"{r['step_s']:.2f}", _seconds(r["routed_s"])),
        )
        for r in rows
    ]
    return Sheet("What each precision would cost here", columns, cells)


def _cores(rows: Sequence[Row]) -> Sheet:
    columns = ("cores", "", "low tier", "low alone s", "high alone s", "routed s", "high/routed")
    cells = [
        (
            *(str(r["cores"]), "predicted" if r["predicted"] else "measured", r.get("low") or "-"),
            *(_seconds(r["low_s"]), _seconds(r["high_s"]), _seconds(r["routed_s"])),
            f"{r['high_s'] / r['routed_s']:.2f}" if r["routed_s"] else "",
        )
        for r in rows
    ]
    return Sheet("A step on other numbers of cores, with the best low tier", columns, cells, 3)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def advice_notes(data: Mapping[str, Any]) -> list[str]:
    """The advice, how far the estimates can be trusted, and what was assumed."""
    settings, load = data["settings"], data["machine"].get("load_average")
    notes = [settings["verdict"]]
    if told := settings.get("command"):
        notes.append(f"to do so: {told}")
    if load is not None and load > BUSY:
        notes.append(f"the machine was busy (load {load}): figures taken now are too low")
    checked = settings["checked"]
    if checked.get("precision"):
        estimated, measured = checked["decode_s"]
        read, took = checked["prefill_s"]
        notes.append(
            f"estimated from a few layers; all {settings['layers']} of {checked['precision']}:"
            f" a token decoded in {1e3 * measured:.1f} ms ({1e3 * estimated:.1f} estimated),"
            f" {settings['prefill']} prefilled in {took:.2f} s ({read:.2f} estimated)"
        )
    where = "given" if settings["bandwidth_given"] else "as copies on all threads measured it"
    notes.append(
        "predicted: computing is shared out among the cores, every call reads all weights at"
        f" {settings['bandwidth_gb']:.1f} GB/s ({where})"
    )
    notes.append(
        "speed is all that is measured: how good a precision is, convert measures; below four"
        " bits none is advised"
    )
    return notes
