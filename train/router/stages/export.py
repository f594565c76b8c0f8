"""The fourth stage: choose a network, calibrate its dial, write it as ONNX, check the file.

The network with the best front on the select games is taken. Its own dial is
then bent so that 0.5, which users start with, is where it plays as well as the
high tier alone, or as well as it can with an escalation rate of at most a fifth.
Where several dials do, the one counts that loses the fewest of the games that the
high tier wins: games won by luck elsewhere are no reason to lose those. A table in
the file says what escalation rate to expect at each dial.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from train.router import figures, front
from train.router.front import Point
from train.router.network import RouterNet
from train.router.onnx_writer import TOLERANCE, RouterCard, parity, write
from train.router.run import Run, load_network

DIALS = tuple(i / 10 for i in range(11))  # the network's own dials that are measured
SHOWN = tuple(i / 10 for i in range(11))  # the user's dials in the table
BUDGET = 0.2  # largest escalation rate at the default dial


class ParityError(RuntimeError):
    """The ONNX file and the network do not say the same."""


def export(run: Run) -> None:
    """Write `router.onnx` and, for comparison, `sft.onnx` of the same shape; `export.json`."""
    started = time.monotonic()
    scores = {entry["what"]: entry["score"] for entry in run.note("grpo")["networks"]}
    name = max(scores, key=lambda key: scores[key])
    select = run.select_games()
    held = run.won_alone(select, len(run.setting.tiers) - 1)
    found: dict[str, Any] = {"chosen": name, "scores": scores}
    for kind, file in (("grpo", "router.onnx"), ("sft", "sft.onnx")):
        net = load_network(run.folder / f"{kind}-{name}.pt")
        points = front.front(run.rollouts.forest, select, net, DIALS, run.rollouts.expand, held)
        table = calibrate(points, float(held.mean()))
        found[kind] = {"points": [asdict(p) for p in points], "dial": table}
        card = RouterCard(
            tiers=run.setting.names,
            fingerprints=run.setting.fingerprints,
            dial=table,
            training=_summary(run, name, kind, scores[name]),
        )
        write(net, card, run.folder / file)
        found[kind]["parity"] = require_parity(run, net, file)
        run.say(f"{file}: {name}, parity {found[kind]['parity']:.1e}, dial {shown_dial(table)}")
    run.keep_note("export", found, started)
    figures.training(run.folder)
    run.say(f"play with it: edge-router play --router onnx:{run.folder / 'router.onnx'}")


def calibrate(points: Sequence[Point], high: float) -> list[tuple[float, float, float]]:
    """(dial, the network's dial, escalation rate) for the user's dials from 0 to 1.

    `high` is the success of the high tier alone, on the same games as `points`.
    """
    return dial_table(points, _middle(points, high))


def dial_table(points: Sequence[Point], middle: float) -> list[tuple[float, float, float]]:
    """As `calibrate`, where the user's 0.5 stands for the network's dial `middle`."""
    inner = np.array([p.dial for p in points])
    shares = np.array([p.share for p in points])
    bent = np.interp(SHOWN, (0.0, 0.5, 1.0), (0.0, np.clip(middle, 0.05, 0.95), 1.0))
    expected = np.interp(bent, inner, shares)
    return [
        (dial, round(float(u), 4), round(float(share), 4))
        for dial, u, share in zip(SHOWN, bent, expected, strict=True)
    ]


def _middle(points: Sequence[Point], high: float) -> float:
    """The network's dial that the user's 0.5 stands for."""
    within = [p for p in points if p.share <= BUDGET] or [min(points, key=lambda p: p.share)]
    enough = min(high, max(p.success for p in within))
    as_good = (p for p in within if p.success >= enough)
    return min(as_good, key=lambda p: (p.missed, p.share)).dial


def require_parity(run: Run, net: RouterNet, file: str) -> float:
    """Largest difference of a probability on real episodes and on noise."""
    real = run.low_episodes()[0][:, :64]
    rng = np.random.default_rng(0)
    noise = rng.random((8, 64, real.shape[2]), np.float32)
    worst = max(parity(net, run.folder / file, episodes) for episodes in (real, noise))
    if not worst < TOLERANCE:
        raise ParityError(f"{file} differs from its network by {worst:.2e}")
    return worst


def _summary(run: Run, name: str, kind: str, score: float) -> dict[str, Any]:
    return {
        "network": name,
        "training": "KL supervision, then GRPO" if kind == "grpo" else "KL supervision",
        "kv": run.setting.kv,
        "train_games": len(run.sets.train),
        "select_games": len(run.sets.select),
        "select_score": score,
        "sft": asdict(run.options.sft),
        "grpo": asdict(run.options.grpo) if kind == "grpo" else None,
    }


def shown_dial(table: Sequence[tuple[float, float, float]]) -> str:
    return ", ".join(f"{dial:g}: {100 * share:.0f} %" for dial, _, share in table[::5])
