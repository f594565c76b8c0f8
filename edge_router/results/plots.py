"""Pictures of a results file, as PNG or SVG. The only module that knows matplotlib.

matplotlib is in the extra `bench` and is imported inside functions: every other command and the
import rules do without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edge_router.agent.events import STAGES
from edge_router.errors import UserError
from edge_router.files.whole import whole
from edge_router.results.file import Data, damage_named
from edge_router.results.machine import threads_in_words
from edge_router.results.statistics import escalation_rate

# Okabe and Ito's colours, distinct for everybody.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Tol's muted ones for the rows of a long table, which differ by markers as well.
MORE: Final = ("#332288", "#999933", "#882255", "#44AA99", "#CC6677", "#117733", "#AA4499")
FEWEST: Final = 20  # games that must still be going for a step's share to mean something


def require_matplotlib() -> None:
    """Raise UserError in one sentence when there is nothing to draw with."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError(
            "drawing needs the package matplotlib; run: pip install 'edge-router[bench]'"
        ) from None


def plot(data: Data, path: Path) -> None:
    """Draw the results into `path` (.png or .svg), whole or not at all. Raises UserError."""
    require_matplotlib()
    from matplotlib.figure import Figure

    draw = _DRAWINGS.get(str(data.get("kind")))
    if draw is None:
        raise UserError(f"there is no picture of {data.get('kind')!r} results")
    figure: Any = Figure(layout="constrained")
    with whole(path) as partial, damage_named(f"the {data.get('kind')} results"):
        draw(data, figure)
        figure.savefig(partial, dpi=150, format=path.suffix.removeprefix("."))


# -- policies -----------------------------------------------------------------------------------


def _policies(data: Data, figure: Any) -> None:
    """Front of success and cost, seconds by stage, and where in a game steps are escalated."""
    rows = [r for r in data["tables"]["policies"] if r["how"] != "expert"]
    figure.set_size_inches(15, 6.2)
    front, stages, steps = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    _front(data, rows, front)
    _stages(rows, stages)
    _by_step(rows, steps)
    figure.legend(
        *front.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=7
    )
    settings, machine = data["settings"], data["machine"]
    threads = threads_in_words(machine["threads"], machine.get("cores"))
    figure.suptitle(
        f"{settings['model']}, {settings['games']} games of {settings['split']}; "
        f"{machine['cpu']}, {threads}",
        fontsize=10,
    )


def _front(data: Data, rows: Sequence[Data], axes: Any) -> None:
    costs = [key for key in ("estimated_s", "measured_s") if all(r[key] for r in rows)]
    cost = next(iter(costs), None)
    colours = _colours(rows)
    for row in rows:
        y = row["success"]
        x = row[cost] if cost else dict.fromkeys(_ENDS, 100 * escalation_rate(row))
        axes.errorbar(
            *(x["value"], 100 * y["value"]),
            xerr=[[x["value"] - x["low"]], [x["high"] - x["value"]]],
            yerr=[[100 * (y["value"] - y["low"])], [100 * (y["high"] - y["value"])]],
            fmt=_MARKERS[row["how"]],
            color=colours[row["row"]],
            mfc=colours[row["row"]] if row["kv"] in ("", "handoff") else "white",
            label=_name(row),
            capsize=2,
            elinewidth=0.8,
        )
    for row in data["tables"]["policies"]:
        if row["how"] == "expert":
            level = 100 * row["success"]["value"]
            axes.axhline(level, color="grey", ls=":", lw=1, label="expert (no model)")
    axes.set_xlabel(_COSTS[cost])
    axes.set_ylabel("games won, % (95 % intervals)")
    axes.set_title("Success and cost")
    axes.grid(alpha=0.3)


_ENDS: Final = ("value", "low", "high")
_COSTS: Final = {
    "estimated_s": "model seconds a game, estimated",
    "measured_s": "model seconds a game, measured",
    None: "escalation rate, % of steps",  # rollouts without a cost profile
}
_MARKERS: Final = {
    "play": "o",
    "rewrite": "v",
    "alone": "s",
    "matched": "x",
    "retry": "^",
    "oracle": "*",
}


def _stages(rows: Sequence[Data], axes: Any) -> None:
    names = [_name(r) for r in rows]
    left = [0.0] * len(rows)
    for stage, colour in zip(STAGES, COLOURS + MORE, strict=False):
        seconds = [r["stage_s"].get(stage, 0.0) for r in rows]
        axes.barh(names, seconds, left=left, color=colour, label=stage)
        left = [a + b for a, b in zip(left, seconds, strict=True)]
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("model seconds a game, measured")
    axes.set_title("Where the time goes")
    axes.set_xlim(0, 1.35 * (max(left) or 1))  # room for the legend beside the bars
    axes.legend(fontsize=7, loc="right")


def _by_step(rows: Sequence[Data], axes: Any) -> None:
    """For routers that choose: the share of games in which step n was escalated."""
    colours = _colours(rows)
    for row in rows:
        counts = list(row["by_step"].values())
        if row["how"] not in ("play", "rewrite", "oracle") or row["router"] in ("low", "high"):
            continue
        played = [sum(at) for at in zip(*counts, strict=True)]
        enough = min(FEWEST, max(played, default=0))
        pairs = zip(played, counts[0], strict=True)
        shares = [100 * (n - low) / n for n, low in pairs if n >= max(1, enough)]
        steps = range(1, len(shares) + 1)
        line = "-" if row["kv"] == "handoff" else ":"
        axes.step(steps, shares, line, where="mid", color=colours[row["row"]], label=_name(row))
    axes.set_ylim(-2, 102)
    axes.set_xlabel("step of the game")
    axes.set_ylabel("% of games escalated")
    axes.set_title("Precision by step")


def _colours(rows: Sequence[Data]) -> dict[str, str]:
    """One colour a router; KV modes differ by the marker."""
    labels = dict.fromkeys(str(row["row"]) for row in rows)
    palette = COLOURS + MORE
    return {label: palette[i % len(palette)] for i, label in enumerate(labels)}


def _name(row: Data) -> str:
    """The row without folders of router files, and with its KV mode where it is not the usual."""
    head, colon, tail = str(row["row"]).rpartition("onnx:")
    label = f"{head}{colon}{Path(tail).name}" if colon else tail
    return label if row["kv"] in ("", "handoff") else f"{label} ({row['kv']})"


# -- tiers ---------------------------------------------------------------------------------------


def _tiers(data: Data, figure: Any) -> None:
    """Success of each tier alone, and how often it differs from the high tier."""
    rows = data["tables"]["tiers"]
    names = [r["router"] for r in rows]
    figure.set_size_inches(10, 4)
    success, distance = figure.subplots(1, 2)
    for i, row in enumerate(rows):
        y = row["success"]
        error = [[100 * (y["value"] - y["low"])], [100 * (y["high"] - y["value"])]]
        success.errorbar(i, 100 * y["value"], yerr=error, fmt="o", color=COLOURS[0], capsize=3)
    success.set_xticks(range(len(names)), names)
    success.set_xlim(-0.5, len(names) - 0.5)
    success.set_ylabel("games won, % (95 % intervals)")
    success.set_title("Each tier alone")
    success.grid(alpha=0.3)
    others = [r for r in rows if r["distance"]]
    for j, (key, label) in enumerate((("text_differs", "text"), ("action_differs", "action"))):
        at = [i + 0.4 * (j - 0.5) for i in range(len(others))]
        found = [r["distance"][key] for r in others]
        shares = [100 * f["value"] for f in found]
        errors = [[100 * abs(f["value"] - f[end]) for f in found] for end in ("low", "high")]
        distance.bar(at, shares, 0.38, yerr=errors, label=label, color=COLOURS[j], capsize=3)
    distance.set_xticks(range(len(others)), [r["router"] for r in others])
    distance.set_ylabel(f"% of {names[-1]}'s steps written otherwise")
    distance.set_title("Distance from the high tier (95 % intervals)")
    distance.set_ylim(0, max(1.0, distance.get_ylim()[1]))
    distance.legend()


# -- speed and costs -----------------------------------------------------------------------------


def _speed(data: Data, figure: Any) -> None:
    """Tokens a second, the loops, handoff against prefill."""
    tables = data["tables"]
    figure.set_size_inches(14, 4.5)
    speeds, loops, handoff = figure.subplots(1, 3)
    names = [r["tier"] for r in tables["tiers"]]
    first = tables["tiers"][0]
    titles = {
        "prefill": f"prefill {first['prefill_tokens']}",
        "decode": f"decode {first['decode_tokens']}",
    }
    _bars(speeds, names, {t: [r[k] for r in tables["tiers"]] for k, t in titles.items()})
    speeds.set_yscale("log")
    speeds.set_ylabel("tokens a second (log)")
    speeds.set_title("Each tier alone")
    _bars(loops, names, {
        title: [r[key] for r in tables["loops"]] for key, title in _LOOPS.items()
    })  # fmt: skip
    loops.set_ylabel("tokens a second")
    loops.set_title("Decoding: our loop and others")
    _handoff(tables["handoff"], handoff)
    figure.suptitle(f"{data['settings']['model']}; {data['machine']['cpu']}", fontsize=10)


_LOOPS: Final = {
    "ours": "ours",
    "raw": "llama_decode",
    "llama_generate": "Llama.generate",
    "llama_completion": "create_completion",
}


def _bars(axes: Any, names: Sequence[str], groups: Mapping[str, Sequence[Data | None]]) -> None:
    """Bars in groups, a group a tier, with standard deviations; what is None is left out."""
    width = 0.8 / len(groups)
    for j, (label, samples) in enumerate(groups.items()):
        taken = [(i, s) for i, s in enumerate(samples) if s is not None]
        axes.bar(
            [i + width * (j - (len(groups) - 1) / 2) for i, _ in taken],
            [s["mean"] for _, s in taken],
            width,
            yerr=[s["sd"] for _, s in taken],
            label=label,
            color=COLOURS[j % len(COLOURS)],
            capsize=2,
        )
    axes.set_xticks(range(len(names)), names)
    axes.legend(fontsize=7)


def _handoff(rows: Sequence[Data], axes: Any) -> None:
    axes.set_title("Handoff against prefill")
    if not rows:
        axes.text(0.5, 0.5, "one tier: nothing to hand over", ha="center")
        return
    spans = [r["tokens"] for r in rows]
    lines = {
        f"prefill on {rows[0]['to']}": "prefill_ms",
        f"prefill on {rows[0]['from']}": "low_prefill_ms",
        "handoff": "handoff_ms",
    }
    for i, (label, key) in enumerate(lines.items()):
        axes.plot(spans, [r[key]["median"] for r in rows], "o-", label=label, color=COLOURS[i])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(spans, [str(span) for span in spans])
    axes.set_xlabel("tokens")
    axes.set_ylabel("milliseconds (log, median)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


def _threads(data: Data, figure: Any) -> None:
    """Tokens a second of each tier by the number of threads."""
    figure.set_size_inches(10, 4)
    for key, axes in zip(("prefill", "decode"), figure.subplots(1, 2), strict=True):
        for i, tier in enumerate(dict.fromkeys(r["tier"] for r in data["tables"]["threads"])):
            rows = [r for r in data["tables"]["threads"] if r["tier"] == tier]
            axes.errorbar(
                *([r["threads"] for r in rows], [r[key]["mean"] for r in rows]),
                yerr=[r[key]["sd"] for r in rows],
                fmt="o-",
                label=tier,
                color=COLOURS[i % len(COLOURS)],
                capsize=2,
            )
        axes.set_xlabel("threads")
        axes.set_ylabel("tokens a second")
        axes.set_title(f"{key} {data['settings'][key]}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)


def _calibration(data: Data, figure: Any) -> None:
    """Milliseconds to read a span, and to write a token, after a short and a long context."""
    rows = data["tables"]["tiers"]
    figure.set_size_inches(11, 4)
    reading, writing = figure.subplots(1, 2)
    for i, row in enumerate(rows):
        for depth, times, style in zip(row["depths"], row["prefill_s"], ("-", ":"), strict=False):
            label = f"{row['name']} after {depth}"
            reading.plot(
                *(row["spans"], [1e3 * t for t in times], f"o{style}"),
                color=COLOURS[i % len(COLOURS)],
                label=label,
                ms=3,
            )
    reading.set_xscale("log", base=2)
    reading.set_yscale("log")
    reading.set_xlabel("tokens in one batch")
    reading.set_ylabel("milliseconds (log)")
    reading.set_title("Prefill")
    reading.grid(alpha=0.3)
    reading.legend(fontsize=7)
    depths = [str(d) for d in rows[0]["depths"]]
    for i, row in enumerate(rows):
        at = [j + 0.8 / len(rows) * (i - (len(rows) - 1) / 2) for j in range(len(depths))]
        times = [1e3 * t for t in row["decode_s"]]
        writing.bar(at, times, 0.75 / len(rows), label=row["name"], color=COLOURS[i % len(COLOURS)])
    writing.set_xticks(range(len(depths)), [f"after {d} tokens" for d in depths])
    writing.set_ylabel("milliseconds a token")
    writing.set_title("Decode")
    writing.legend(fontsize=7)


def _advice(data: Data, figure: Any) -> None:
    """Milliseconds of a token in five ways, by precision."""
    figure.set_size_inches(10, 4)
    axes = figure.subplots()
    rows = data["tables"]["candidates"]
    ways = ["decode", "prefill", *(f"verify {n}" for n in rows[0]["verify"])]
    for i, row in enumerate(rows):
        each = [row["decode_s"], row["prefill_s"] / row["prefill_tokens"]]
        each += [seconds / int(n) for n, seconds in row["verify"].items()]
        at = [j + 0.8 / len(rows) * (i - (len(rows) - 1) / 2) for j in range(len(ways))]
        colour = COLOURS[i % len(COLOURS)]
        axes.bar(
            at, [1e3 * s for s in each], 0.75 / len(rows), label=row["precision"], color=colour
        )
    axes.set_xticks(range(len(ways)), ways)
    axes.set_ylabel("milliseconds a token")
    axes.set_title("What a token costs, by precision")
    axes.legend(fontsize=7)


_DRAWINGS: Final[Mapping[str, Callable[[Data, Any], None]]] = {
    "policies": _policies,
    "tiers": _tiers,
    "speed": _speed,
    "threads": _threads,
    "calibration": _calibration,
    "advice": _advice,
}
