"""How figures are written in the tables of results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def number(estimate: Mapping[str, float] | None, form: str = ".1f", scale: float = 1.0) -> str:
    """ "8.3 (7.9-8.7)": a value and its interval; "" where there is none."""
    if estimate is None:
        return ""
    value, low, high = (scale * estimate[k] for k in ("value", "low", "high"))
    if format(low, form) == format(high, form):
        return format(value, form)
    dash = " to " if low < 0 else "-"
    return f"{value:{form}} ({low:{form}}{dash}{high:{form}})"


def escalation_rate(row: Mapping[str, Any]) -> float:
    """The share of a row's steps that the low tier did not write; 0 where no step was played."""
    low = next(iter(row["share"].values()), None)
    return 0.0 if low is None else float(1 - low["value"])


def threads_in_words(threads: int | None, cores: int | None) -> str:
    """ "2 threads of 4 cores"; 0 threads are those whose number follows the machine."""
    if threads == 0:
        return f"threads that follow the machine, {cores} cores"
    return f"{threads} threads of {cores} cores"


def machine_line(data: Mapping[str, Any]) -> str:
    """One line that says where the figures come from."""
    m = data["machine"]
    load = m.get("load_average")
    busy = f", load {load}" if load is not None else ""
    return (
        f"{m.get('cpu')}, {threads_in_words(m.get('threads'), m.get('cores'))}, "
        f"{m.get('memory_gb')} GB{busy}; {m.get('build') or m.get('llama.cpp', '')}"
    )
