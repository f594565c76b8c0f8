"""Pictures of a training run, from the JSON files that its stages leave behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_router.results.statistics import escalation_rate
from train.router.run import read_note
from train.router.setting import results_stem

matplotlib.use("Agg")

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
DIALS = ("0", "0.25", "0.5", "0.75", "1")


def training(folder: Path) -> Path | None:
    """Reward, escalation rate and KL to the supervised network over GRPO's iterations."""
    note = read_note(folder, "grpo")
    if note is None:
        return None
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    for colour, network in zip(COLOURS, note["networks"], strict=False):
        steps = [e for e in network["log"] if "reward" in e]
        judged = [e for e in network["log"] if "points" in e]
        _curve(axes[0, 0], steps, "reward", colour, network["what"])
        _curve(axes[1, 0], steps, "kl", colour, network["what"])
        axes[0, 1].plot(
            [e["iteration"] for e in judged],
            [100 * e["score"] for e in judged],
            "o-",
            color=colour,
            markersize=3,
            label=network["what"],
        )
    best = max(note["networks"], key=lambda n: float(n["score"]))
    _shares(axes[1, 1], best)
    for axis, title, label in (
        (axes[0, 0], "Reward of the sampled episodes", "reward"),
        (axes[1, 0], "KL(policy || supervised)", "nats a step"),
        (axes[0, 1], "Front on the select games", "mean % won at escalation rates of 5 to 30 %"),
        (axes[1, 1], f"Escalation rate by dial, {best['what']}", "% of steps"),
    ):
        axis.set_title(title)
        axis.set_ylabel(label)
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    path = folder / "router-training.png"
    figure.savefig(path, dpi=110)
    return path


def _curve(axis: Axes, log: list[dict[str, Any]], key: str, colour: str, label: str) -> None:
    values = [e[key] for e in log]
    smooth = [
        sum(values[max(0, i - 9) : i + 1]) / len(values[max(0, i - 9) : i + 1])
        for i in range(len(values))
    ]
    steps = [e["iteration"] for e in log]
    axis.plot(steps, values, color=colour, alpha=0.2, linewidth=0.8)
    axis.plot(steps, smooth, color=colour, label=label)


def _shares(axis: Axes, network: dict[str, Any]) -> None:
    judged = [e for e in network["log"] if "points" in e]
    for index, (colour, dial) in enumerate(zip(COLOURS, DIALS, strict=True)):
        axis.plot(
            [e["iteration"] for e in judged],
            [100 * e["points"][index]["share"] for e in judged],
            color=colour,
            label=f"dial {dial}",
        )


def fronts(folder: Path) -> list[Path]:
    """Success against the escalation rate, one picture for each table."""
    note = read_note(folder, "evaluate")
    if note is None:
        return []
    paths = []
    for table in note["tables"]:
        figure = Figure(figsize=(8, 5.5), layout="constrained")
        axis = figure.subplots()
        _front(axis, table["rows"])
        axis.set_title(f"{table['games']}, {table['rows'][0]['games']} games, kv {table['kv']}")
        path = folder / f"router-front-{results_stem(table['games'], table['kv'])}.png"
        figure.savefig(path, dpi=110)
        paths.append(path)
    return paths


def _front(axis: Axes, rows: list[dict[str, Any]]) -> None:
    for prefix, colour, marker, join in (
        ("SFT + GRPO", COLOURS[0], "o", True),
        ("SFT,", COLOURS[1], "s", True),
        ("random", "#888888", "x", True),
        ("entropy", COLOURS[2], "^", False),
        ("margin", COLOURS[3], "v", False),
        ("draft", COLOURS[4], "D", False),
        ("high after", "#555555", "P", False),
        ("always", "black", "d", False),
        ("oracle", "black", "*", False),
    ):
        chosen = sorted((r for r in rows if r["row"].startswith(prefix)), key=escalation_rate)
        if not chosen:
            continue
        won = [r["success"] for r in chosen]
        axis.errorbar(
            [100 * escalation_rate(r) for r in chosen],
            [100 * share["value"] for share in won],
            yerr=[
                [100 * (share["value"] - share["low"]) for share in won],
                [100 * (share["high"] - share["value"]) for share in won],
            ],
            fmt=marker,
            color=colour,
            linestyle="-" if join else "none",
            linewidth=1.2,
            elinewidth=0.5,
            alpha=0.9,
            markersize=10 if marker == "*" else 6,
            label=prefix.rstrip(","),
        )
    axis.set_xlabel("escalation rate, % of steps")
    axis.set_ylabel("% of games won (bars: Wilson's 95 % interval)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="lower right")
