"""The last stage: compare the router with everything else, on games nobody has tuned on.

Leaves `evaluate.json`, and for each set of games and KV mode a results file as `bench policies`
writes it (`evaluate-test-handoff.json`, for `edge-router report`), its tables and a picture.
Games in files are played once more, step by step, on the real engine (`verify`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from edge_router.engine.trust import ladder_fingerprint
from edge_router.errors import UserError
from edge_router.evaluate.policies import PlayedRow
from edge_router.evaluate.rows import Row
from edge_router.evaluate.summary import summaries
from edge_router.files.whole import write_text
from edge_router.ladders.costs import CostProfile
from edge_router.results.file import results, write_json
from edge_router.results.outputs import sheets_of, summary_of
from edge_router.router.feature_table import ALL_NAMES, feature
from edge_router.router.registry import RouterKind, kinds, make_router
from edge_router.router.rules import NEUTRAL
from edge_router.router.spec import RouterSpec
from edge_router.screen.printable import paragraphs, say
from edge_router.tasks.registry import find_task
from train.router import figures, front
from train.router.explore import ExplorePlan
from train.router.games import FileGame, KeyedGame, from_files
from train.router.policies import RouterPolicy
from train.router.rollouts import Rollouts
from train.router.run import Run
from train.router.setting import LadderSetting, results_stem
from train.router.table import WalkedRow, compare, oracle_is_beaten
from train.router.verify import plans_path, verify, write_plans

DIALS = (0.0, 0.25, 0.5, 0.75, 1.0)
CHANCES = (0.1, 0.2, 0.4)
OFFICIAL = "valid_seen"
TRAINED = "SFT + GRPO"  # what the rows of the trained router are called, with the dial
MATCHED_ON = 300  # select games on which thresholds are fitted to the router's share
HALVINGS = 7


@dataclass(frozen=True)
class Comparison:
    """What is to be compared."""

    official: bool = True  # valid_seen as well, where ALFWORLD_DATA has it
    kvs: tuple[str, ...] = ()  # KV modes besides the run's own
    profiles: tuple[tuple[str, CostProfile], ...] = ()
    search: int = 100  # histories that the oracle may look at in a game


def evaluate(run: Run, comparison: Comparison) -> None:
    """Compare on the test games, and on the official ones where they are."""
    started = time.monotonic()
    asked = policies(run)
    sets = _official(run) if comparison.official else []
    sets.append(("test", run.sets.test))
    found: dict[str, Any] = {"policies": [str(row.router) for row in asked], "tables": []}
    replays = []
    for kv in (run.setting.kv, *comparison.kvs):
        for name, games in sets:
            table, rows = _table(run, comparison, kv, name, games, asked)
            found["tables"].append(table)
            replays.append((table, rows, [g for g in games if isinstance(g, FileGame)]))
            run.keep_note("evaluate", found, started)
    for table, rows, files in replays:
        if files:
            table["engine_differences"] = verify(files, rows, run.progress)
            _say_differences(table)
            run.keep_note("evaluate", found, started)
    figures.fronts(run.folder)


def _say_differences(table: dict[str, Any]) -> None:
    wrong = table["engine_differences"]
    say(f"{table['games']}, kv {table['kv']}: {len(wrong)} differences from the engine")
    say("\n".join(paragraphs(wrong[:5])))


def _official(run: Run) -> list[tuple[str, Sequence[KeyedGame]]]:
    task = find_task(run.setting.task)
    if OFFICIAL not in task.splits:
        return []
    try:
        return [(OFFICIAL, from_files(task.games(OFFICIAL).games))]
    except UserError as error:
        run.say(f"without {OFFICIAL}: {error}")
        return []


def policies(run: Run) -> list[Row]:
    """Every row of the table; thresholds and chances are set on the select games."""
    router, supervised = run.folder / "router.onnx", run.folder / "sft.onnx"
    if not router.is_file():
        raise UserError(f"{router} does not exist; run the stage export first")
    ours, first = RouterSpec.trained(router), RouterSpec.trained(supervised)
    share = _share(run, ours)
    names = run.setting.names
    asked = {f"always {names[0]}": RouterSpec("low")}
    asked |= {f"always {name}": RouterSpec("tier", name) for name in names[1:-1]}
    asked |= {f"always {names[-1]}": RouterSpec("high")}
    asked |= {f"random {100 * p:g} %": RouterSpec("random", str(p)) for p in CHANCES}
    asked |= {"random, same share": RouterSpec("random", f"{share:.4f}")}
    asked |= {
        f"{kind.name}, same share": matched(run, kind, share)
        for kind in kinds()
        if kind.score in ALL_NAMES
    }
    asked |= {"high after a refusal": RouterSpec("retry")}
    rows = [Row("play", spec, name=name) for name, spec in asked.items()]
    for name, spec in (("SFT", first), (TRAINED, ours)):
        rows += [Row("play", spec, dial=d, name=f"{name}, dial {d:g}") for d in DIALS]
    return rows


def _share(run: Run, spec: RouterSpec, games: int | None = None) -> float:
    """Escalation rate of a router on the select games, or the first of them."""
    rollouts, judges = run.rollouts, run.sets.select[:games]
    rollouts.play(judges, [(spec, 0.5)], f"share of {spec.kind}")
    policy = RouterPolicy(partial(make_router, spec), run.setting.names, rollouts.forest)
    return front.point(rollouts.forest, rollouts.take(judges), policy, 0.5, rollouts.expand).share


def matched(run: Run, kind: RouterKind, share: float) -> RouterSpec:
    """The threshold router of a kind that sends `share` of the steps to the high tier.

    The threshold is a quantile of its statistic along the low tier's own episodes on the
    select games, found by halving until the share that comes of it there fits; what share
    comes of it on other games stands in the table.
    """
    values = run.statistic(kind.score)
    rises = feature(kind.score).kind == "doubt"  # else it falls where the low tier is unsure
    least, most, part = 0.0, 1.0, share
    for _ in range(HALVINGS):
        quantile = 1.0 - part if rises else part
        spec = RouterSpec(kind.name, f"{float(np.quantile(values, quantile)):.6g}")
        found = _share(run, spec, MATCHED_ON)
        if abs(found - share) < 0.05 * share:
            break
        least, most = (part, most) if found < share else (least, part)
        part = min((least + most) / 2, 2 * part)
    return spec


def _table(
    run: Run,
    comparison: Comparison,
    kv: str,
    name: str,
    games: Sequence[KeyedGame],
    asked: Sequence[Row],
) -> tuple[dict[str, Any], list[WalkedRow]]:
    setting = replace(run.setting, kv=kv)
    path = run.folder / "rollouts.sqlite"
    with Rollouts(setting, path, run.options.backend, run.progress) as rollouts:
        rollouts.collect(
            games, ExplorePlan(random=(), search=comparison.search), f"{name}, {kv}: oracle"
        )
        rows = compare(rollouts, games, asked)
        beaten = oracle_is_beaten(rows, setting.names)
    if beaten:
        raise RuntimeError(f"the oracle's bound was beaten: {beaten[:3]}")
    data = _results(run, setting, comparison, name, rows)
    stem = results_stem(name, kv)
    write_json(run.folder / f"evaluate-{stem}.json", data)
    write_text(run.folder / f"table-{stem}.md", "\n".join(s.markdown() for s in sheets_of(data)))
    say(f"{name}, {len(games)} games, kv {kv}")
    say("\n".join(sheet.text() for sheet in summary_of(data)))
    plans = plans_path(run.folder, name, kv)
    if write_plans(plans, setting, games, rows[-1]):
        run.say(f"the oracle's plans are in {plans}")
    return {"games": name, "kv": kv, "rows": data["tables"]["policies"]}, rows


def _results(
    run: Run, setting: LadderSetting, comparison: Comparison, name: str, rows: Sequence[WalkedRow]
) -> dict[str, Any]:
    """The rows as a results file of the kind "policies", each held against the trained router."""
    profiles = dict(comparison.profiles)
    played = [row.played for row in rows]
    table = summaries(
        played,
        setting.names,
        next(iter(profiles.values()), None),
        router=default_row(played),
        profiles=profiles,
    )
    settings = {
        "model": "/".join(setting.names),
        "tiers": {spec.name: spec.path.name for spec in setting.tiers},
        "ladder": ladder_fingerprint(setting.tiers),
        "split": name,
        "games": len(rows[0].records),
        "game_ids": [record.game for record in rows[0].records],
        "max_steps": setting.max_steps,
        "temperature": 0.0,
        "n_ctx": setting.n_ctx,
        "jobs": run.options.backend.jobs,
        "costs": next(iter(profiles), None),
    }
    return results("policies", settings, {"policies": table}, threads=setting.threads)


def default_row(rows: Sequence[PlayedRow]) -> PlayedRow:
    """The trained router at the dial that users start with."""
    wanted = f"{TRAINED}, dial {NEUTRAL:g}"
    return next(row for row in rows if row.row.label == wanted)
