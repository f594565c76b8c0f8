"""The kinds of files that the fuzzer damages: how a small whole one is made, and who reads it."""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from tools.fuzz_mutations import mutate_bytes, mutate_json, mutate_text

ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Kind:
    """`make` writes whole files into a folder, `harm` damages them, `read` is the real code."""

    make: Callable[[Path], None]
    harm: Callable[[Path, random.Random], None]
    read: Callable[[Path], None]


Change = Callable[[bytes, random.Random], bytes]


def harm_one(folder: Path, rng: random.Random, *, changes: dict[str, Change]) -> None:
    """Damage one of the files in `changes`; now and then put something else in its place."""
    path = folder / rng.choice(sorted(changes))
    if rng.random() < 0.01:
        path.unlink()
        return path.mkdir() if rng.random() < 0.5 else None
    path.write_bytes(changes[path.name](path.read_bytes(), rng))
    return None


def _one(make: Callable[[Path], None], read: Callable[[Path], None], **changes: Change) -> Kind:
    """A kind of which files are named with __ for a dot."""
    named = {name.replace("__", "."): change for name, change in changes.items()}
    return Kind(make, partial(harm_one, changes=named), read)


# -- models --------------------------------------------------------------------------------------


def _make_gguf(folder: Path) -> None:
    from edge_router.bench.synthetic import SHAPES, write_random_f16

    write_random_f16(replace(SHAPES["tiny"], layers=1, vocabulary=512), folder / "a.gguf", seed=1)
    shutil.copyfile(folder / "a.gguf", folder / "b.gguf")


def _read_gguf(folder: Path) -> None:
    from edge_router.engine.ladder import Ladder
    from edge_router.engine.tier import TierSpec

    specs = [TierSpec(name, folder / f"{name}.gguf") for name in ("a", "b")]
    with Ladder.load(specs, n_ctx=128, n_threads=1) as ladder:
        ladder.prefill(ladder.tiers[0].model.tokenize("You see a desk 1."))


def _make_ladder(folder: Path) -> None:
    (folder / "ladder.toml").write_text(
        '[ladder]\nname = "mine"\nprompt = "react"\nrouter = "entropy:0.5"\n'
        '[source]\nrepo = "a/b"\n'
        + "".join(
            f'[[tier]]\nname = "{name}"\nfile = "{name}.gguf"\nsha256 = "{"0" * 64}"\n'
            f"size_bytes = 100\ntensors_of_another_type = 0\n"
            "text = {tokens = 4000, kl = 0.1, agreement = 0.9}\n"
            for name in ("q4_k_m", "q8_0")
        )
    )


def _read_ladder(folder: Path) -> None:
    from edge_router.ladders.resolve import resolve
    from edge_router.router.registry import make_router

    ladder = resolve(str(folder), [])
    make_router(ladder.router).reset(tuple(tier.name for tier in ladder.tiers), 0)


def _make_template(folder: Path) -> None:
    (folder / "template").write_text(
        "{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'user' and "
        "loop.index0 < 3 %}<|{{ m['role'] | upper }}|>{{ (m.content ~ ' ') * 2 | int }}"
        "{% elif m.content.split('x')[-1] | length > 2 ** 3 %}{{ m | tojson(indent=2) }}"
        "{% else %}{{ raise_exception('no') if ns.found else m.content | trim }}{% endif %}"
        "{% endfor %}{% for i in range(4) %}{{ strftime_now('%d') }}{{ i }}{% endfor %}"
        "{% if add_generation_prompt %}{{ bos_token }}{% endif %}"
    )


def _read_template(folder: Path) -> None:
    from edge_router.agent.template import ChatTemplate
    from edge_router.files.data_files import read_file

    source = read_file(folder / "template", "text").decode("utf-8", "surrogateescape")
    messages = [{"role": r, "content": f"a {r} text"} for r in ("system", "user", "assistant")]
    ChatTemplate(source, bos="<s>").render(messages)


def _make_onnx(folder: Path) -> None:
    shutil.copyfile(ROOT / "models" / "household" / "router.onnx", folder / "r.onnx")


def _harm_onnx(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    import onnx

    model = onnx.load_model_from_string(data)
    entry = rng.choice(model.metadata_props)
    changed = mutate_json(entry.value.encode(), rng)
    entry.value = changed.decode("utf-8", "replace")
    return bytes(model.SerializeToString())


def _read_onnx(folder: Path) -> None:
    import numpy as np

    from edge_router.router.base import Features
    from edge_router.router.feature_table import SCHEMA, names_at
    from edge_router.router.onnx_router import OnnxRouter

    router = OnnxRouter(folder / "r.onnx")
    router.reset(("iq1_s", "q8_0"), 0)
    names = names_at(router.decide_at)
    router.dial_for(0.1)
    router.decide(Features(SCHEMA, names, np.zeros(len(names), np.float32)))


# -- games and what was recorded of them -----------------------------------------------------------

_TRIAL: Final = Path("pick_and_place_simple-Mug-None-Desk-308", "trial_1")


def _make_game(folder: Path) -> None:
    from edge_router.tasks.alfworld.game_files import SHIPPED

    found = min(SHIPPED.rglob("game.tw-pddl"), key=lambda file: (file.stat().st_size, str(file)))
    shutil.copytree(found.parent, folder / _TRIAL)


def _harm_game(folder: Path, rng: random.Random) -> None:
    data = partial(_harm_sometimes, often=mutate_json, seldom=mutate_text)
    harm_one(folder / _TRIAL, rng, changes={"game.tw-pddl": _harm_rules, "traj_data.json": data})


def _harm_sometimes(data: bytes, rng: random.Random, *, often: Change, seldom: Change) -> bytes:
    return (often if rng.random() < 0.8 else seldom)(data, rng)


def _harm_rules(data: bytes, rng: random.Random) -> bytes:
    """Mostly damage inside the grammar and the PDDL, which JSON holds as texts."""
    if rng.random() < 0.3:
        return mutate_json(data, rng)
    game = json.loads(data)
    key = rng.choice(("grammar", "pddl_problem", "pddl_domain"))
    game[key] = mutate_text(game[key].encode(), rng).decode("utf-8", "replace")
    return json.dumps(game).encode()


def _read_game(folder: Path) -> None:
    from edge_router.tasks.alfworld.game import AlfworldGame
    from edge_router.tasks.alfworld.game_files import look_for_games

    for ref in look_for_games(folder).games:
        game = AlfworldGame(ref.path)
        try:
            game.reset()
            for command in ("look", "go to desk 1", *game.admissible()[:2]):
                game.step(command)
        finally:
            game.close()


def _make_textworld(folder: Path) -> None:
    from edge_router.tasks.textworld.game_files import SHIPPED

    for file in SHIPPED.glob("coin_collector-*"):
        shutil.copyfile(file, folder / f"game{file.suffix}")


def _harm_program(data: bytes, rng: random.Random) -> bytes:
    """Damage a program; mostly its checksum is then made right."""
    changed = bytearray(mutate_bytes(data, rng))
    length = 8 * int.from_bytes(changed[26:28])
    if rng.random() < 0.8 and 64 <= length <= len(changed):
        changed[28:30] = (sum(changed[64:length]) & 0xFFFF).to_bytes(2)
    return bytes(changed)


def _read_textworld(folder: Path) -> None:
    from edge_router.tasks.textworld.game import TextworldGame

    game = TextworldGame(folder / "game.z8")
    try:
        game.reset()
        for command in ("look", "go north", *game.admissible()[:2]):
            game.step(command)
    finally:
        game.close()


def _make_trace(folder: Path) -> None:
    lines = (ROOT / "tests" / "traces" / "won.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "e.jsonl").write_bytes(b"".join([*lines[:5], lines[-1]]))


def _harm_trace(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at] = mutate_json(lines[at], rng) + b"\n"
    return b"".join(lines)


def _read_trace(folder: Path) -> None:
    from edge_router.agent.listeners.json_printer import JsonPrinter
    from edge_router.agent.listeners.printer import PlainPrinter
    from edge_router.agent.trace import read_trace, replay

    text = io.StringIO()
    replay(read_trace(folder / "e.jsonl"), [PlainPrinter(text), JsonPrinter(text, text)])


# -- results --------------------------------------------------------------------------------------


def _record(won: bool) -> Any:
    from edge_router.evaluate.records import GameRecord, StepRecord

    step = StepRecord("low", False, 10.0, 50, 10, 0, 0, 5)
    return GameRecord("a/b", "kind", won, "", "" if won else "not found", "low", (step,))


def _make_results(folder: Path) -> None:
    from edge_router.evaluate.policies import Outcome, PlayedRow
    from edge_router.evaluate.rows import HIGH, LOW, Row
    from edge_router.evaluate.summary import summaries
    from edge_router.results.file import results, write_json

    rows = [
        PlayedRow(
            Row("play", router, "handoff"), tuple(Outcome((_record(w),)) for w in (True, win))
        )
        for router, win in ((LOW, False), (HIGH, True))
    ]
    settings = {"model": "m", "split": "generated", "games": 2, "game_ids": ["a/b", "a/c"]}
    tables = {"policies": summaries(rows, ("low", "high"), None)}
    write_json(folder / "p.json", results("policies", settings, tables, threads=1))


def _read_results(folder: Path) -> None:
    from edge_router.results.report import find_results, write_report

    found, _ = find_results(folder, pictures=False)
    write_report(found, folder / "report.html")


def _make_store(folder: Path) -> None:
    from edge_router.work.store import Store

    with Store(folder / "s.sqlite") as store:
        store.put("key", asdict(_record(True)), "a game")


def _harm_row(folder: Path, rng: random.Random) -> None:
    """Damage the row, which stays a row; in every third file the database itself."""
    path = folder / "s.sqlite"
    if rng.random() < 0.3:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
        return
    with sqlite3.connect(path) as database:
        (text,) = database.execute("SELECT result FROM results").fetchone()
        changed: Any = mutate_json(text.encode(), rng)
        if rng.random() < 0.7:
            changed = changed.decode("utf-8", "replace")
        database.execute("UPDATE results SET result = ?", (changed,))
    database.close()


def _read_store(folder: Path) -> None:
    from edge_router.evaluate.records import GameRecord
    from edge_router.work.pool import Backend, Crew
    from edge_router.work.store import Store, StoredWork

    with Store(folder / "s.sqlite") as store:
        StoredWork(store, Crew(Backend()))._stored("key", GameRecord)
        store.put("other", {"won": True})


def _make_costs(folder: Path) -> None:
    from edge_router.ladders.costs import SCHEMA, CostProfile, TierCost

    tiers = tuple(
        TierCost(name, 100, (1, 10, 100), (0, 100), ((0.01, 0.02, 0.11),) * 2, (0.01, 0.02))
        for name in ("low", "high")
    )
    profile = CostProfile("tiny", "0" * 64, tiers, 0.001, 0.0001, 2, "", {"cpu": "a"})
    (folder / "c.json").write_text(json.dumps({"schema": SCHEMA, **asdict(profile)}))


def _read_costs(folder: Path) -> None:
    from edge_router.ladders.costs import StepTokens, read_profile

    profile = read_profile(folder / "c.json")
    for name in profile.names:
        profile.step_seconds(name, StepTokens(30, 5, 2, 12, 400, 3))


# -- settings and checkpoints ----------------------------------------------------------------------


def _make_config(folder: Path) -> None:
    (folder / "config.toml").write_text(
        '[play]\nrouter = "entropy:0.3"\nmax-steps = 30\ntier = ["a=x.gguf"]\nplain = true\n'
        "temperature = 0.5\n[bench.policies]\njobs = 2\n[train.router]\n"
    )


def _read_config(folder: Path) -> None:
    import os

    import click

    from edge_router.cli.config import read_defaults
    from edge_router.cli.main import main

    os.environ["EDGE_ROUTER_HOME"] = str(folder)
    read_defaults(click.Context(main, info_name="edge-router"))


def _make_checkpoint(folder: Path) -> None:
    from tests.checkpoints import write_checkpoint

    write_checkpoint(folder, "qwen3", width=64)
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "eos_token_id": [2]}')


def _harm_checkpoint(folder: Path, rng: random.Random) -> None:
    changes: dict[str, Change] = {
        file.name: mutate_json for file in folder.glob("*.json") if file.name != "tokenizer.json"
    }
    changes["tokenizer.json"] = mutate_json
    changes["model.safetensors"] = partial(mutate_bytes, head=3000)
    harm_one(folder, rng, changes=changes)


def _read_checkpoint(folder: Path) -> None:
    from edge_router.convert.source import CheckpointSource, open_source

    source = open_source(folder)
    assert isinstance(source, CheckpointSource)
    _ = source.columns, source.n_vocab
    source.write(folder / "out.gguf", lambda n_bytes: None, check=False)


def _make_network(folder: Path) -> None:
    from train.router.network import NetworkShape, RouterNet
    from train.router.run import save_network

    save_network(RouterNet(NetworkShape(2)), folder / "n.pt")


def _read_network(folder: Path) -> None:
    from train.router.run import load_network

    load_network(folder / "n.pt")


@dataclass(frozen=True)
class _Game:
    """A game that nobody plays."""

    task: str = "alfworld"
    key: str = "game"
    kind: str = "kind"

    def open(self) -> Any:
        raise NotImplementedError


def _make_rollouts(folder: Path) -> None:
    import numpy as np

    from edge_router.router.feature_table import ALL_NAMES
    from train.router.node import Node, Writing, child_key, root_key
    from train.router.store import RolloutStore

    root, features = root_key("game"), np.ones(len(ALL_NAMES), np.float32)
    wrote = tuple(Writing(f"> {t}", (t, 7), "go", 0.5, 0.1, 2, 0.1, 0.1, 0.1) for t in range(2))
    store = RolloutStore(folder / "r.sqlite", "ladder")
    store.add("game", [Node(root, None, 0, 0, "goal", False, False, False, 9, features, wrote)])
    for tier, writing in enumerate(wrote):
        end = child_key(root, writing.tokens)
        store.add("game", [Node(end, root, tier, 1, "ok", False, True, True, 19, features, ())])
    store.close()


def _harm_rollouts(folder: Path, rng: random.Random) -> None:
    """Put another value into a cell; in every third file damage the database itself."""
    path = folder / "r.sqlite"
    if rng.random() < 0.3:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
        return
    with sqlite3.connect(path) as database:
        table = rng.choice(("node", "writing"))
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        value = rng.choice((None, "", "text", -1, 2**62, 1e308, b"", b"\xff\x00\x01"))
        database.execute(f"UPDATE OR IGNORE {table} SET {rng.choice(columns[1:])} = ?", (value,))
    database.close()


def _read_rollouts(folder: Path) -> None:
    from train.router.forest import Forest
    from train.router.store import RolloutStore

    store = RolloutStore(folder / "r.sqlite", "ladder")
    store.finished("plan")
    Forest(2).add_tree(store.load(_Game()))
    store.count()
    store.close()


def _make_plans(folder: Path) -> None:
    plans = {"a/b": [0, 1, 0], "a/c": [1]}
    data = {"schema": "edge-router/plans/1", "tiers": ["low", "high"], "plans": plans}
    (folder / "p.json").write_text(json.dumps(data))


def _read_plans(folder: Path) -> None:
    from edge_router.evaluate.policies import read_plans
    from edge_router.evaluate.rows import plan_spec
    from edge_router.router.registry import make_router

    for plan in read_plans(folder / "p.json", ["low", "high"]).values():
        make_router(plan_spec(plan)).reset(("low", "high"), 0)


KINDS: Final[dict[str, Kind]] = {
    "gguf": _one(_make_gguf, _read_gguf, a__gguf=partial(mutate_bytes, head=12_000)),
    "ladder": _one(_make_ladder, _read_ladder, ladder__toml=mutate_text),
    "game": Kind(_make_game, _harm_game, _read_game),
    "textworld": _one(
        _make_textworld, _read_textworld, game__z8=_harm_program, game__json=mutate_json
    ),
    "trace": _one(_make_trace, _read_trace, e__jsonl=_harm_trace),
    "onnx": _one(_make_onnx, _read_onnx, r__onnx=_harm_onnx),
    "results": _one(_make_results, _read_results, p__json=mutate_json),
    "store": Kind(_make_store, _harm_row, _read_store),
    "costs": _one(_make_costs, _read_costs, c__json=mutate_json),
    "checkpoint": Kind(_make_checkpoint, _harm_checkpoint, _read_checkpoint),
    "template": _one(_make_template, _read_template, template=mutate_text),
    "config": _one(_make_config, _read_config, config__toml=mutate_text),
    "rollouts": Kind(_make_rollouts, _harm_rollouts, _read_rollouts),
    "plans": _one(_make_plans, _read_plans, p__json=mutate_json),
    "network": _one(_make_network, _read_network, n__pt=mutate_bytes),
}
