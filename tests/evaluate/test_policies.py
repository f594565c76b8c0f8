"""The policies benchmark: the real engine, the store, resuming, and the arithmetic of its rows."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_router.agent.episode import Options
from edge_router.bench.synthetic import Shape
from edge_router.cli.main import main
from edge_router.engine.tier import TierSpec
from edge_router.engine.tier_spec import ModelRuntime
from edge_router.errors import UserError
from edge_router.evaluate.choices import EpisodeChoice, settings_of
from edge_router.evaluate.policies import Policies, Settings, read_plans
from edge_router.evaluate.records import GameRecord, StepRecord
from edge_router.evaluate.rows import HIGH, LOW, Row, parse_rows
from edge_router.evaluate.summary import summaries
from edge_router.ladders.ladder_file import LadderFile
from edge_router.results.file import read_results
from edge_router.router.spec import RouterSpec
from edge_router.tasks.alfworld.game_files import SHIPPED, split_games
from edge_router.tasks.games import GameRef
from edge_router.work.pool import Backend, Crew
from edge_router.work.store import Store, StoredWork
from tests.tiny_gguf import TINY_QWEN3, write_tiny_ladder

SHORT = replace(TINY_QWEN3, name="tiny-household", prompt_style="household")


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[TierSpec]:
    paths = write_tiny_ladder(tmp_path_factory.mktemp("tiny"), SHORT, ("q4_k_m", "q8_0"))
    return [TierSpec(name, path) for name, path in paths.items()]


@pytest.fixture
def options(specs: list[TierSpec], tmp_path: Path) -> list[str]:
    tiers = [f"--tier={s.name}={s.path}" for s in specs]
    short = ["--split=generated", "--max-steps=3", "--threads=1", "--ctx=1024"]
    return ["bench", "policies", *tiers, *short, f"--store={tmp_path / 'store.sqlite'}"]


def run(arguments: list[str]) -> Result:
    return CliRunner().invoke(main, arguments)


def stored(path: Path) -> dict[str, str]:
    """Key -> when its result was made."""
    with sqlite3.connect(path) as database:
        return dict(database.execute("SELECT key, made || rowid FROM results"))


def table(path: Path) -> dict[str, Any]:
    return {r["row"]: r for r in read_results(path)["tables"]["policies"]}


def played(options: list[str], rows_of: str, folder: Path) -> dict[str, Any]:
    """The table of these rows over one game."""
    path = folder / "p.json"
    result = run([*options, "--games=1", f"--routers={rows_of}", f"--json={path}"])
    assert result.exit_code == 0, result.output
    return table(path)


@pytest.mark.parametrize("games", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_table_has_every_row_and_the_same_command_plays_nothing_again(
    options: list[str], tmp_path: Path, games: int
) -> None:
    wanted = [
        f"--games={games}",
        "--max-steps=2",
        "--routers=low,random:0.5,matched:random:0.5,retry:high,alone:q8_0,expert",
    ]
    files = [f"--json={tmp_path / 'p.json'}", f"--csv={tmp_path / 'p.csv'}"]
    result = run([*options, *wanted, *files])
    assert result.exit_code == 0, result.output
    before = stored(tmp_path / "store.sqlite")
    rows = table(tmp_path / "p.json")
    assert list(rows) == [
        *("low", "random:0.5", "matched:random:0.5", "high", "retry:high", "alone:q8_0", "expert")
    ]
    assert all(row["games"] == games for row in rows.values())
    assert rows["low"]["share"]["q4_k_m"]["value"] == 1.0
    assert rows["high"]["share"]["q8_0"]["value"] == 1.0
    assert rows["alone:q8_0"]["share"]["q8_0"]["value"] == 1.0
    # a lone tier reads each token once, a ladder's high tier the prompt's last one once more
    assert (
        rows["alone:q8_0"]["prefilled_tokens"]["value"] == rows["low"]["prefilled_tokens"]["value"]
    )
    assert rows["high"]["against_high"] is None
    assert rows["low"]["against_high"]["p_value"] == 1.0
    assert rows["low"]["by_step"]["q4_k_m"] == [games, games]
    with (tmp_path / "p.csv").open() as file:
        lines = [line for line in file if not line.startswith("#")]
    assert [r["row"] for r in csv.DictReader(lines)] == list(rows)
    again = run([*options, *wanted, "--markdown"])
    assert again.exit_code == 0, again.output
    assert "| retry:high |" in again.stdout
    assert stored(tmp_path / "store.sqlite") == before


def test_the_store_calls_each_game_by_who_plays_it_and_older_names_are_read(
    options: list[str], tmp_path: Path
) -> None:
    store = tmp_path / "store.sqlite"
    command = [*options, "--games=1", "--routers=low,alone:q8_0,rewrite:draft:1", "--max-steps=1"]

    def names() -> list[str]:
        with sqlite3.connect(store) as database:
            return sorted(
                what.split()[0] for (what,) in database.execute("SELECT what FROM results")
            )

    assert run(command).exit_code == 0
    assert names() == ["alone:q8_0", "high", "low", "rewrite:draft:1"]
    before = stored(store)
    with sqlite3.connect(store) as database:  # as older versions called it
        database.execute("UPDATE results SET what = replace(what, 'alone:q8_0', 'low')")
    assert run(command).exit_code == 0
    assert stored(store) == before


def test_games_are_played_anew_when_anything_that_decides_them_changes(
    options: list[str], tmp_path: Path
) -> None:
    def count(*more: str) -> int:
        result = run([*options, "--games=1", "--routers=high", *more])
        assert result.exit_code == 0, result.output
        return len(stored(tmp_path / "store.sqlite"))

    assert [count(), count(), count("--kv=exact"), count("--max-steps=2"), count("--jobs=1")] == [
        *(1, 1, 2, 3, 3)
    ]


def test_a_router_that_verifies_is_held_against_one_that_rewrites(
    options: list[str], tmp_path: Path
) -> None:
    rows_of = "low,draft:1,rewrite:draft:1,verify,verify:4"
    rows = played(options, rows_of, tmp_path)
    rewritten, high = rows["rewrite:draft:1"], rows["high"]
    assert (rewritten["acceptance"], rewritten["stage_s"]["verify"]) == (None, 0)
    assert rewritten["stage_s"]["decode"] > 0
    for name in ("draft:1", "verify", "verify:4"):
        row = rows[name]
        assert 0 < row["acceptance"]["value"] < 1
        assert row["accepted_tokens"]["value"] < row["drafted_tokens"]["value"]
        assert row["rewritten_tokens"]["value"] > 0 < row["stage_s"]["verify"]
        assert row["share"] == high["share"]
        assert row["steps"] == rewritten["steps"]
    full = run([*options, "--games=1", f"--routers={rows_of}", "--full"])
    assert {"drafted", "accepted", "rewritten"} < set(full.stdout.split())
    assert (
        max(map(len, run([*options, "--games=1", f"--routers={rows_of}"]).stdout.split("\n"))) <= 80
    )
    before = stored(tmp_path / "store.sqlite")
    assert len(before) == 6  # each way of escalating has results of its own


def test_a_row_with_lookup_plays_the_same_game_from_results_of_its_own(
    options: list[str], tmp_path: Path
) -> None:
    rows_of = "alone:q8_0,lookup:alone:q8_0,draft:1,lookup:draft:1"
    rows = played(options, rows_of, tmp_path)
    for name in ("alone:q8_0", "draft:1"):
        plain, looked_up = rows[name], rows[f"lookup:{name}"]
        assert looked_up["steps"] == plain["steps"]
        assert looked_up["decoded_tokens"] == plain["decoded_tokens"]
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        names = [what.split()[0] for (what,) in database.execute("SELECT what FROM results")]
    assert sorted(names) == sorted([*rows_of.split(","), "high"])


def test_a_chain_on_three_tiers_tells_what_each_tier_accepted(tmp_path: Path) -> None:
    short = ["--model=household-3", "--split=generated", "--max-steps=4", "--threads=1"]
    command = ["bench", "policies", *short, "--games=1", "--routers=verify,chain", "--ctx=1024"]
    files = [f"--store={tmp_path / 's.sqlite'}", f"--json={tmp_path / 'p.json'}"]
    result = run([*command, *files, "--full"])
    assert result.exit_code == 0, result.output
    rows = table(tmp_path / "p.json")
    assert list(rows["verify"]["verified_by"]) == ["q8_0"]
    by = rows["chain"]["verified_by"]
    assert list(by) == ["q4_k_m", "q8_0"]
    middle, high = (by[tier] for tier in by)
    assert middle["drafted_tokens"] == rows["verify"]["drafted_tokens"]
    handed_on = middle["accepted_tokens"]["value"] + middle["rewritten_tokens"]["value"]
    assert high["drafted_tokens"]["value"] == handed_on
    assert high["acceptance"] == rows["chain"]["acceptance"]
    assert rows["chain"]["steps"] == rows["verify"]["steps"] == rows["high"]["steps"]
    assert "Drafts, tokens a game" in result.stdout


def ladder_in(folder: Path, shape: Shape, prompt: str) -> Path:
    """A ladder.toml beside tiny tiers; "" names no prompt style."""
    folder.mkdir()
    lines = ["[ladder]", 'name = "tiny"', f'prompt = "{prompt}"' if prompt else ""]
    for name, path in write_tiny_ladder(folder, shape, ("q4_k_m", "q8_0")).items():
        lines += ["[[tier]]", f'name = "{name}"', f'file = "{path.name}"']
    (folder / "ladder.toml").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("command", ["policies", pytest.param("tiers", marks=pytest.mark.slow)])
def test_games_are_played_in_the_prompt_style_that_the_ladder_names(
    command: str, tmp_path: Path
) -> None:
    """The same weights, which say "household" themselves, or by their ladder.toml, or by both."""
    told = {
        "gguf": ladder_in(tmp_path / "gguf", SHORT, ""),
        "toml": ladder_in(tmp_path / "toml", TINY_QWEN3, "household"),
        "both": ladder_in(tmp_path / "both", SHORT, "household"),
    }
    found, counts = {}, []
    for name, folder in told.items():
        short = ["--split=generated", "--games=1", "--max-steps=1", "--threads=1", "--ctx=1024"]
        kept = [f"--store={tmp_path / 'store.sqlite'}", f"--json={tmp_path / name}.json"]
        routers = ["--routers=high"] if command == "policies" else []
        result = run(["bench", command, f"--model={folder}", *short, *kept, *routers])
        assert result.exit_code == 0, result.output
        data = read_results(tmp_path / f"{name}.json")
        assert data["settings"]["prompt"] == "household"
        found[name] = [
            (r["row"], r["prefilled_tokens"], r["steps"], r.get("distance"))
            for r in data["tables"][command]
        ]
        counts.append(len(stored(tmp_path / "store.sqlite")))
    assert found["gguf"] == found["toml"] == found["both"]
    assert counts[0] < counts[1] == counts[2]  # other files are other results, a name is not


def test_results_are_kept_apart_by_the_prompt_style(specs: list[TierSpec], tmp_path: Path) -> None:
    def key(prompt: str) -> str:
        settings = settings_of(
            LadderFile("", Path(), tuple(specs), prompt=prompt),
            "alfworld",
            EpisodeChoice(),
            ModelRuntime(),
        )
        work = StoredWork(Store(tmp_path / "s.sqlite"), Crew(Backend()))
        policies = Policies(specs, GAMES[:1], settings, work)
        return policies._jobs(Row("play", HIGH, "handoff"))[0].key()

    assert key("") == key("household") != key("react")
    with pytest.raises(UserError, match="no prompt style 'poem'"):
        key("poem")


def test_a_game_that_the_engine_rejects_is_counted_and_the_run_goes_on(
    options: list[str], tmp_path: Path
) -> None:
    for file in list(SHIPPED.glob("*/*/game.tw-pddl"))[:2]:
        name = file.parent.relative_to(SHIPPED)
        shutil.copytree(file.parent, tmp_path / "games" / name)
    broken = next((tmp_path / "games").glob("*/*/game.tw-pddl"))
    game = json.loads(broken.read_text())
    broken.write_text(json.dumps(game | {"pddl_problem": game["pddl_problem"][:200]}))
    arguments = [o for o in options if not o.startswith("--split")]
    arguments += [f"--folder={tmp_path / 'games'}", "--routers=high", f"--json={tmp_path / 'p'}"]
    result = run(arguments)
    assert result.exit_code == 0, result.output
    row = table(tmp_path / "p")["high"]
    assert (row["games"], row["crashed"], row["failures"]["crashed"]) == (2, 1, 1)
    assert "damaged" in row["crashes"][0]
    assert "crashed, counted as not won" in result.stdout
    before = stored(tmp_path / "store.sqlite")
    run(arguments)
    assert stored(tmp_path / "store.sqlite") == before
    run([*arguments, "--play-crashed-again"])
    after = stored(tmp_path / "store.sqlite")
    assert sum(before[key] != after[key] for key in before) == 1


def test_ctrl_c_keeps_what_is_done_and_the_same_command_finishes(
    options: list[str], tmp_path: Path
) -> None:
    store = tmp_path / "store.sqlite"
    program = [str(Path(sys.executable).with_name("edge-router")), *options]
    # many short games: the interruption must not come after the last one
    program += ["--games=6", "--routers=high", "--max-steps=2", "--jobs=2"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        give_up = time.monotonic() + 120
        while not (store.exists() and stored_or_nothing(store)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it too
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert "the same command goes on from there" in err
    before = stored(store)
    assert 1 <= len(before) < 6
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = stored(store)
    assert len(after) == 6
    assert {key: after[key] for key in before} == before


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.02, 0.3])
def test_ctrl_c_after_the_last_game_shows_no_traceback(
    options: list[str], tmp_path: Path, delay: float
) -> None:
    """While processes end, and while Python does: then the table is out, and the signal ends it."""
    store = tmp_path / "store.sqlite"
    program = [sys.executable, "-m", "edge_router.cli", *options]
    program += ["--games=2", "--routers=high", "--max-steps=1", "--jobs=2"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        give_up = time.monotonic() + 120
        while not (store.exists() and len(stored_or_nothing(store)) == 2):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.005)
        time.sleep(delay)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode in (130, -signal.SIGINT, 0)
    if process.returncode == 130:
        assert "edge-router: interrupted" in err


def stored_or_nothing(path: Path) -> dict[str, str]:
    try:
        return stored(path)
    except sqlite3.Error:  # it is being made
        return {}


# -- the arithmetic, on records that were put into the store by hand -------------------------------

GAMES = [GameRef(g.id, g.path, g.kind, g.task) for g in split_games("generated")[:3]]


def record(game: GameRef, won: bool, seconds: float, tiers: str = "q4_k_m") -> GameRecord:
    steps = tuple(
        StepRecord(tier, False, 1000 * seconds / len(tiers.split()), 50, 10, 0, 0, 5)
        for tier in tiers.split()
    )
    reason, failure = ("won", "") if won else ("out of steps", "not found")
    return GameRecord(game.id, game.kind, won, reason, failure, "q4_k_m", steps)


def known(policies: Policies, row: Row, attempt: int, records: list[GameRecord]) -> None:
    """Put records into the store as those of a row's games."""
    games = {game.id: game for game in policies.games}
    for found in records:
        job = policies._job(games[found.game], policies.specs, row.router or LOW, row, attempt)
        policies.work.store.put(job.key(), asdict(found))


@pytest.fixture
def policies(specs: list[TierSpec], tmp_path: Path) -> Policies:
    settings = Settings(Options(fingerprints=False), ModelRuntime(threads=1, ctx=1024))
    return Policies(
        specs, GAMES, settings, StoredWork(Store(tmp_path / "s.sqlite"), Crew(Backend()))
    )


def test_retries_spend_what_the_compared_row_cost_and_no_more(policies: Policies) -> None:
    high, low = (
        Row("play", HIGH, "handoff"),
        Row("play", LOW, "handoff"),
    )
    a, b, c = GAMES
    known(policies, high, 0, [record(a, True, 10), record(b, True, 10), record(c, False, 10)])
    known(policies, low, 0, [record(a, True, 4), record(b, False, 4), record(c, False, 4)])
    known(policies, low, 1, [record(b, False, 8), record(c, True, 8)])  # 12 + 8 + 8 = 28 of 30
    known(policies, low, 2, [record(b, True, 8)])  # 36: not affordable
    _, retry = policies.play([high, Row("retry", HIGH, "handoff")])
    assert [o.won for o in retry.outcomes] == [True, False, True]
    assert [len(o.attempts) for o in retry.outcomes] == [1, 2, 2]
    assert sum(o.measured_seconds for o in retry.outcomes) == pytest.approx(28)
    row = summaries([retry], ["q4_k_m", "q8_0"], None)[0]
    assert row["attempts"]["value"] == pytest.approx(5 / 3)


def test_retry_says_when_the_budget_is_gone_before_any_retry(policies: Policies) -> None:
    high, low = (
        Row("play", HIGH, "handoff"),
        Row("play", LOW, "handoff"),
    )
    known(policies, high, 0, [record(g, True, 1) for g in GAMES])
    known(policies, low, 0, [record(g, False, 9) for g in GAMES])
    retry = policies.play([high, Row("retry", HIGH, "handoff")])[1]
    assert [len(o.attempts) for o in retry.outcomes] == [1, 1, 1]
    assert "cost more" in retry.note


def test_matched_chance_has_the_shares_of_the_row_it_is_matched_to(policies: Policies) -> None:
    base = Row("play", RouterSpec.parse("entropy:0.5"), "handoff")
    known(policies, base, 0, [record(g, True, 1, "q4_k_m q8_0 q4_k_m q4_k_m") for g in GAMES])
    mix = Row("play", RouterSpec.parse("mix:0.7500/0.2500"), "handoff")
    known(policies, mix, 0, [record(g, False, 1) for g in GAMES])
    matched = policies.play([base, replace(base, how="matched")])[1]
    assert [o.won for o in matched.outcomes] == [False] * 3


def test_the_oracle_plays_its_plans_and_needs_them(policies: Policies, tmp_path: Path) -> None:
    oracle = Row("oracle", kv="handoff")
    with pytest.raises(UserError, match="--oracle FILE"):
        policies.play([oracle])
    plans = {"schema": "edge-router/plans/1", "plans": {GAMES[1].id: [0, 1]}}
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    policies.plans = read_plans(tmp_path / "plans.json", policies.names)
    for game, plan in zip(GAMES, ("", "0.1", ""), strict=True):
        row = replace(oracle, router=RouterSpec("plan", plan))
        known(policies, row, 0, [record(game, True, 1)])
    assert [o.won for o in policies.play([oracle])[0].outcomes] == [True] * 3


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"schema": "x", "plans": {}}',
        "no json",
        '{"schema": "edge-router/plans/1", "tiers": ["a"], "plans": {}}',
    ],
)
def test_a_file_without_plans_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "plans").write_text(content)
    with pytest.raises(UserError, match="plans for an oracle"):
        read_plans(tmp_path / "plans", ["q4_k_m", "q8_0"])


def test_rows_are_compared_with_high_under_their_own_kv_mode(policies: Policies) -> None:
    rows = parse_rows(["low"], kvs=["handoff", "exact"], dials=[], auto=LOW)
    low, high, exact = rows
    known(policies, low, 0, [record(g, False, 1) for g in GAMES])
    known(policies, high, 0, [record(g, True, 1) for g in GAMES])
    known(policies, exact, 0, [record(g, False, 1) for g in GAMES])
    found = summaries(policies.play(rows), ["q4_k_m", "q8_0"], None)
    assert found[0]["against_high"]["only_reference"] == 3
    assert [r["against_high"] for r in found[1:]] == [None, None]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("--games=61", "there are 60"),
        ("--folder=.", "exclude each other"),
        ("--kv=half", "unknown KV mode"),
        ("--dial=1.5", "between 0 and 1"),
        ("--dial=x", "between 0 and 1"),
        ("--retry-temperature=-1", "temperature"),
        ("--costs=nonesuch", "no cost profile 'nonesuch'"),
        ("--oracle=absent.json", "there is no such file"),
        ("--routers=oracle", "--oracle FILE"),
        ("--routers=nonesuch", "no router 'nonesuch'"),
        ("--json=absent/p.json", "make the folder"),
        ("--csv=.", "is a folder"),
        ("--plot=p.gif", ".png or .svg"),
        ("--ctx=100000", "was trained for"),
        ("--store=.", "is a folder; name a file"),
    ],
)
def test_bad_input_is_told_in_one_sentence_before_anything_is_played(
    options: list[str], more: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))
    result = run([*options, more])
    assert result.exit_code == 2, result.output
    assert says in result.stderr.splitlines()[-1]
    assert result.stdout == ""
    assert not (tmp_path / "store.sqlite").exists() or not stored(tmp_path / "store.sqlite")


@pytest.mark.slow
def test_dask_plays_the_same_games_with_the_same_outcome(tmp_path: Path) -> None:
    """Four games of the embedded ladder on two local dask workers, and in a process here."""
    distributed = pytest.importorskip("distributed")
    command = ["bench", "policies", "--split=generated", "--games=4", "--routers=auto"]
    command += ["--max-steps=8", "--threads=1"]
    tables = {}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        for name, more in {
            "dask": f"--dask={cluster.scheduler_address}",
            "here": "--jobs=1",
        }.items():
            kept = [f"--store={tmp_path / name}.sqlite", f"--json={tmp_path / name}.json"]
            result = run([*command, more, *kept])
            assert result.exit_code == 0, result.output
            tables[name] = table(tmp_path / f"{name}.json")
    assert len(tables["dask"]) == 2
    for row, one in tables["dask"].items():
        other = tables["here"][row]
        assert one["games"] == 4
        assert one["crashed"] == 0
        for what in ("won", "steps", "prefilled_tokens", "share"):
            assert one[what] == other[what]
