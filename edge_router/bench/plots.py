"""Pictures of a results file, as PNG or SVG. The only module that knows matplotlib.

matplotlib is in the extra `bench` and is imported inside functions: every other command and the
import rules do without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edge_router.bench.records import STAGES
from edge_router.bench.results import unwritable
from edge_router.errors import UserError

Data = Mapping[str, Any]
# Okabe and Ito's colours, told apart by everybody.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


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
    draw(data, figure)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        figure.savefig(partial, dpi=150)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise unwritable(path, error) from error


# -- policies -----------------------------------------------------------------------------------


def _policies(data: Data, figure: Any) -> None:
    """Front of success and cost, seconds by stage, and where in a game dearer tiers are used."""
    rows = [r for r in data["tables"]["policies"] if r["how"] != "expert"]
    figure.set_size_inches(15, 5.2)
    front, stages, steps = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    _front(data, rows, front)
    _stages(rows, stages)
    _by_step(rows, steps)
    settings = data["settings"]
    figure.suptitle(
        f"{settings['model']}, {settings['games']} games of {settings['split']}; "
        f"{data['machine']['cpu']}, {data['machine']['threads']} threads",
        fontsize=10,
    )


def _front(data: Data, rows: Sequence[Data], axes: Any) -> None:
    cost = "estimated_s" if all(r["estimated_s"] for r in rows) else "measured_s"
    colours = _colours(rows)
    for row in rows:
        x, y = row[cost], row["success"]
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
    measured = "calibrated" if cost == "estimated_s" else "measured"
    axes.set_xlabel(f"seconds a game ({measured})")
    axes.set_ylabel("games won, % (95 % intervals)")
    axes.set_title("Success and cost")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)


_MARKERS: Final = {"play": "o", "alone": "s", "matched": "x", "retry": "^", "oracle": "*"}


def _stages(rows: Sequence[Data], axes: Any) -> None:
    names = [_name(r) for r in rows]
    left = [0.0] * len(rows)
    for stage, colour in zip(STAGES, COLOURS, strict=False):
        seconds = [r["stage_s"].get(stage, 0.0) for r in rows]
        axes.barh(names, seconds, left=left, color=colour, label=stage)
        left = [a + b for a, b in zip(left, seconds, strict=True)]
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("seconds a game (measured)")
    axes.set_title("Where the time goes")
    axes.legend(fontsize=7)


def _by_step(rows: Sequence[Data], axes: Any) -> None:
    """For routers that choose: the share of games in which a dearer tier wrote step n."""
    colours = _colours(rows)
    for row in rows:
        counts = list(row["by_step"].values())
        if row["how"] not in ("play", "oracle") or row["router"] in ("low", "high"):
            continue
        played = [sum(at) for at in zip(*counts, strict=True)]
        shares = [100 * (n - low) / n for n, low in zip(played, counts[0], strict=True) if n]
        steps = range(1, len(shares) + 1)
        line = "-" if row["kv"] == "handoff" else ":"
        axes.step(steps, shares, line, where="mid", color=colours[row["row"]], label=_name(row))
    axes.set_ylim(-2, 102)
    axes.set_xlabel("step of the game")
    axes.set_ylabel("% of games not on the cheapest tier")
    axes.set_title("Precision by step")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7)


def _colours(rows: Sequence[Data]) -> dict[str, str]:
    """One colour a router; KV modes are told apart by the marker."""
    labels = dict.fromkeys(str(row["row"]) for row in rows)
    return {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}


def _name(row: Data) -> str:
    """The row without folders of router files, and with its KV mode where it is not the usual."""
    head, colon, tail = str(row["row"]).rpartition("onnx:")
    label = f"{head}{colon}{Path(tail).name}" if colon else tail
    return label if row["kv"] in ("", "handoff") else f"{label} ({row['kv']})"


_DRAWINGS: Final[Mapping[str, Callable[[Data, Any], None]]] = {"policies": _policies}
