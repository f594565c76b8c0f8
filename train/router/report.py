"""The stage that compares: tables, a JSON file and pictures, on games nobody has tuned on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from edge_router.bench.statistics import wilson
from edge_router.costs import CostProfile
from edge_router.errors import UserError
from edge_router.tasks.game_files import split_games
from train.router import front
from train.router.explore import Plan
from train.router.games import FileGame, Game, from_files
from train.router.pipeline import Run
from train.router.policies import RouterPolicy
from train.router.rollouts import Rollouts
from train.router.table import Asked, Row, compare, oracle_is_beaten
from train.router.verify import verify

DIALS = (0.0, 0.25, 0.5, 0.75, 1.0)
CHANCES = (0.1, 0.2, 0.4)
OFFICIAL = "valid_seen"


@dataclass(frozen=True)
class Wish:
    """What is to be compared."""

    official: bool = True  # valid_seen as well, where ALFWORLD_DATA has it
    kvs: tuple[str, ...] = ()  # KV modes besides the run's own
    profiles: tuple[tuple[str, CostProfile], ...] = ()
    search: int = 100  # histories that the oracle may look at in a game


def evaluate(run: Run, wish: Wish, console: Console) -> dict[str, Any]:
    """Compare on the test games, and on the official ones where they are."""
    started = time.monotonic()
    asked = policies(run)
    sets = _official(run) if wish.official else []
    sets.append(("test", run.sets.test))
    told: dict[str, Any] = {"policies": [a.spec for a in asked], "tables": []}
    replays = []
    for kv in (run.setting.kv, *wish.kvs):
        for name, games in sets:
            table, rows = _table(run, wish, console, kv, name, games, asked)
            told["tables"].append(table)
            replays.append((table, rows, [g for g in games if isinstance(g, FileGame)]))
            run.keep_note("evaluate", told, started)
    for table, rows, files in replays:
        if files:
            table["engine_differences"] = verify(files, rows, run.progress)
            _tell_differences(table, console)
            run.keep_note("evaluate", told, started)
    return told


def _tell_differences(table: dict[str, Any], console: Console) -> None:
    wrong = table["engine_differences"]
    console.print(f"{table['games']}, kv {table['kv']}: {len(wrong)} differences from the engine")
    for line in wrong[:5]:
        console.print(line)


def _official(run: Run) -> list[tuple[str, Sequence[Game]]]:
    try:
        return [(OFFICIAL, from_files(split_games(OFFICIAL)))]
    except UserError as error:
        run.say(f"without {OFFICIAL}: {error}")
        return []


def policies(run: Run) -> list[Asked]:
    """Every row of the table; thresholds and chances are set on the select games."""
    router, supervised = run.folder / "router.onnx", run.folder / "sft.onnx"
    if not router.is_file():
        raise UserError(f"{router} does not exist; run the stage export first")
    share = _share(run, f"onnx:{router}")
    names = run.setting.names
    asked = [Asked(f"always {names[0]}", "low")]
    asked += [Asked(f"always {name}", f"tier:{name}") for name in names[1:-1]]
    asked += [Asked(f"always {names[-1]}", "high")]
    asked += [Asked(f"random {100 * p:g} %", f"random:{p}") for p in CHANCES]
    asked += [Asked("random, same share", f"random:{share:.4f}")]
    asked += [
        Asked(f"{kind}, same share", matched(run, kind, share))
        for kind in ("entropy", "margin", "draft")
    ]
    asked += [Asked("dearest after a refusal", "retry")]
    asked += [Asked(f"SFT, dial {d:g}", f"onnx:{supervised}", d) for d in DIALS]
    asked += [Asked(f"SFT + GRPO, dial {d:g}", f"onnx:{router}", d) for d in DIALS]
    return asked


def _share(run: Run, spec: str) -> float:
    return _point(run, spec).share


def _point(run: Run, spec: str, dial: float = 0.5) -> front.Point:
    from functools import partial

    from edge_router.router.parse import make_router

    rollouts = run.rollouts
    policy = RouterPolicy(partial(make_router, spec), run.setting.names, rollouts.forest)
    return front.point(rollouts.forest, run.select_games(), policy, dial, rollouts.expand)


def matched(run: Run, kind: str, share: float) -> str:
    """The threshold router of a kind that sends about `share` of the steps to the dearest tier.

    The threshold is that quantile of its statistic along the cheapest tier's own episodes on the
    select games; what share comes of it on other games stands in the table.
    """
    feature = {"entropy": "entropy", "margin": "margin", "draft": "draft_min_p"}[kind]
    values = run.statistic(feature)
    quantile = 1.0 - share if kind == "entropy" else share
    return f"{kind}:{float(np.quantile(values, quantile)):.6g}"


def _table(
    run: Run,
    wish: Wish,
    console: Console,
    kv: str,
    name: str,
    games: Sequence[Game],
    asked: Sequence[Asked],
) -> tuple[dict[str, Any], list[Row]]:
    setting = replace(run.setting, kv=kv)
    path = run.folder / "rollouts.sqlite"
    with Rollouts(setting, path, run.options.jobs, run.progress) as rollouts:
        rollouts.collect(games, Plan(random=(), search=wish.search), f"{name}, {kv}: oracle")
        rows = compare(rollouts, games, asked, dict(wish.profiles))
        beaten = oracle_is_beaten(rows, rollouts.forest, rollouts.take(games))
    if beaten:
        raise RuntimeError(f"the oracle's bound was beaten: {beaten[:3]}")
    console.print(show(rows, f"{name}, {len(games)} games, kv {kv}", wish))
    table = {"games": name, "kv": kv, "rows": [_with_tests(row, rows) for row in rows]}
    return table, rows


def _with_tests(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """A row with McNemar's test against always the dearest, and of the router against it."""
    high = next(r for r in rows if r.spec == "high")
    ours = default_row(rows)
    return {
        **row.plain(),
        "against_high": dict(zip(("more", "fewer", "p"), row.against(high), strict=True)),
        "router_against_it": dict(zip(("more", "fewer", "p"), ours.against(row), strict=True)),
    }


def default_row(rows: Sequence[Row]) -> Row:
    """The trained router at the dial that users start with."""
    trained = [r for r in rows if r.dial == 0.5 and r.name.startswith("SFT + GRPO")]
    return trained[0]


def show(rows: Sequence[Row], title: str, wish: Wish) -> Table:
    view = Table(title=title)
    high, ours = next(r for r in rows if r.spec == "high"), default_row(rows)
    view.add_column("policy")
    for heading in ("won", "95 %", "dear", "steps", "tokens", "vs high", "router vs it"):
        view.add_column(heading, justify="right")
    for name, _ in wish.profiles:
        view.add_column(f"s/game {name}", justify="right")
    for row in rows:
        low, top = wilson(sum(row.won), len(row.won))
        cells = [
            f"{100 * row.success:.1f} %",
            f"{100 * low:.1f}-{100 * top:.1f}",
            f"{100 * row.share:.1f} %",
            f"{sum(row.steps) / len(row.steps):.1f}",
            f"{row.tokens / len(row.won):.0f}",
            _pair(row.against(high)) if row is not high else "",
            _pair(ours.against(row)) if row is not ours else "",
        ]
        cells += [f"{row.seconds[n]:.2f}" if n in row.seconds else "" for n, _ in wish.profiles]
        view.add_row(row.name, *cells)
    return view


def _pair(test: tuple[int, int, float]) -> str:
    more, fewer, p = test
    return f"+{more} -{fewer} p {p:.2g}"
