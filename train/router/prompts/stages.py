"""The stages of a router for prompts, each on what the ones before it left in the run's folder.

collect    what every tier answers to every prompt                 rollouts.sqlite
sft        networks learn where the low tier's answers part        sft.json, sft-*.pt
export     the best one as ONNX, its dial set on held-out prompts  router.onnx, export.json
evaluate   against rules and chance on prompts nobody tuned on     evaluate.json, table-test.md

There is no environment and so nothing to win: GRPO has no part in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from edge_router.files.whole import write_text
from edge_router.screen.printable import WIDTH, columns, paragraphs, say
from train.router import front
from train.router.forest import Ints
from train.router.front import Point
from train.router.network import NetworkShape
from train.router.onnx_writer import RouterCard, write
from train.router.options import SftConfig
from train.router.prompts.agreement import Judge
from train.router.prompts.comparison import compare, percent
from train.router.run import Run, load_network, name_of, save_network
from train.router.stages import export as games_export
from train.router.stages import sft as games_sft

DIALS = tuple(i / 20 for i in range(21))  # the network's own dials that are measured
BUDGET = 0.2  # escalation rate at the default dial
_STEPS = 600  # of the optimiser, at least: prompts are few where games are thousands
_BATCH = 64  # prompts
_PARTS = 3  # of the cross-validation


def collect(run: Run) -> None:
    """Let every tier answer every prompt; leaves `collect.json`."""
    started, rollouts = time.monotonic(), run.rollouts
    every = [*run.sets.train, *run.sets.select, *run.sets.test]
    rollouts.collect(every, run.options.plan, "prompts")
    games = run.training_games()
    judge = Judge.of(rollouts.forest, games)
    rows = ~rollouts.forest.done[: rollouts.forest.size]
    same = float(judge.same[rows, 0].mean())
    found = {
        "histories": rollouts.store.count(),
        "decoded_now": rollouts.decoded,
        "train_prompts": len(games),
        "steps": int(rows.sum()),
        "steps_with_calls": int(judge.calls[rows].sum()),
        "same_low": same,
    }
    run.keep_note("collect", found, started)
    low, high = run.setting.names[0], run.setting.names[-1]
    run.say(
        f"{found['steps']} answers to the training prompts: {low}'s is {high}'s in "
        f"{percent(same)} of them"
    )


def supervise(run: Run) -> None:
    """Supervise every network, and score it by cross-validation; leaves `sft.json`."""
    started, games, select = time.monotonic(), run.training_games(), run.select_games()
    judge, table = Judge.of(run.rollouts.forest, games), list[dict[str, Any]]()
    config = config_for(run.options.sft, len(games))
    for shape in run.shapes:
        net = games_sft.train(judge.forest, games, shape, config, judge.divergences)
        save_network(net, run.folder / f"sft-{name_of(shape)}.pt")
        points = judge.front(select, net)
        score = cross_validated(judge, np.concatenate([games, select]), shape, config)
        shown = ", ".join(f"{percent(p.success)} at {percent(p.share)}" for p in points)
        run.say(f"{name_of(shape)}: takes away {shown} (score {score:.3f})")
        table.append(
            {"what": name_of(shape), "score": score, "points": [asdict(p) for p in points]}
        )
    run.keep_note("sft", {"networks": table, "config": asdict(config), "cap": judge.cap}, started)


def cross_validated(judge: Judge, games: Ints, shape: NetworkShape, config: SftConfig) -> float:
    """Mean score on each part of prompts (games,) of a network that learnt from the others.

    The select prompts alone are too few to tell networks apart: on 46 of them four networks
    scored 0.210 to 0.222.
    """
    scores = []
    for part in range(_PARTS):
        rest = games[np.arange(len(games)) % _PARTS != part]
        net = games_sft.train(judge.forest, rest, shape, config, judge.divergences)
        points = judge.front(games[part::_PARTS], net, front.FINE_DIALS)
        scores.append(front.score(points, low=0.0))
    return float(np.mean(scores))


def config_for(config: SftConfig, prompts: int) -> SftConfig:
    """Labels by KL, and as many epochs as make the optimiser's steps enough."""
    batches = -(-prompts * len(config.chances) // _BATCH)
    epochs = max(config.epochs, -(-_STEPS // batches))
    return replace(config, label="kl", measure="sum", batch_size=_BATCH, epochs=epochs)


def export(run: Run) -> None:
    """Write the network with the best front as `router.onnx`; leaves `export.json`."""
    started = time.monotonic()
    scores = {entry["what"]: entry["score"] for entry in run.note("sft")["networks"]}
    name = max(scores, key=lambda key: scores[key])
    net = load_network(run.folder / f"sft-{name}.pt")
    games, select = run.training_games(), run.select_games()
    judge = Judge.of(run.rollouts.forest, games)
    points = judge.front(select, net, DIALS)
    dial = games_export.dial_table(points, middle(points))
    training = {
        "network": name,
        "training": "KL supervision on prompts",
        "kv": run.setting.kv,
        "train_prompts": len(run.sets.train),
        "select_prompts": len(run.sets.select),
        "cross_validated_score": scores[name],
        "sft": run.note("sft")["config"],
    }
    card = RouterCard(run.setting.names, run.setting.fingerprints, dial, training)
    write(net, card, run.folder / "router.onnx")
    worst = games_export.require_parity(run, net, "router.onnx")
    found = {"chosen": name, "scores": scores, "dial": dial, "parity": worst}
    run.keep_note("export", {**found, "points": [asdict(p) for p in points]}, started)
    run.say(f"router.onnx: {name}, parity {worst:.1e}, dial {games_export.shown_dial(dial)}")
    run.say(f"use it: edge-router serve --router onnx:{run.folder / 'router.onnx'}")


def middle(points: Sequence[Point]) -> float:
    """The network's dial at which a share of BUDGET is escalated on the select prompts."""
    shares = np.maximum.accumulate([p.share for p in points])
    dials = [p.dial for p in points]
    at = int(np.searchsorted(shares, BUDGET, side="right"))
    if at in (0, len(points)):
        return dials[0] if at == 0 else dials[-1]
    part = (BUDGET - shares[at - 1]) / (shares[at] - shares[at - 1])
    return float(dials[at - 1] + part * (dials[at] - dials[at - 1]))


def evaluate(run: Run) -> None:
    """Compare on the test prompts, say whether there is anything to route; `evaluate.json`."""
    started = time.monotonic()
    found = compare(run)
    run.keep_note("evaluate", found.data(), started)
    sheet = found.sheet()
    write_text(run.folder / "table-test.md", sheet.markdown())
    say(sheet.text())
    told = [*found.remarks(), *found.verdict]
    say("\n".join(paragraphs(told, width=columns() or WIDTH)))
