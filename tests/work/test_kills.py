"""Long work that is killed at any moment: nothing goes on, nothing half is taken for whole.

Ten times each, at moments drawn over the whole of a run: no process and no shared memory stays
behind, what has its final name is whole, and the same command then ends as an unkilled one.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from edge_router.agent.trace import Trace, read_trace
from edge_router.bench.synthetic import SHAPES
from edge_router.ladders.resolve import find_ladder
from tests.tiny_gguf import write_tiny

KILLS: Final = 10
PATIENCE: Final = 120  # seconds; a busy machine is slow to end processes
GAMES: Final = ("--train-games=6", "--select-games=3", "--test-games=1")


class LongWork(ABC):
    """A command that writes into a folder. `base` is a folder of its own for what it needs."""

    def __init__(self, base: Path) -> None:
        self.base = base

    @abstractmethod
    def command(self, out: Path) -> list[str]: ...

    @abstractmethod
    def outcome(self, out: Path) -> Any:
        """What two runs must have in common."""

    @abstractmethod
    def check_half(self, out: Path, whole: Any) -> None:
        """Fail where a killed run left something that is taken for more than it is."""

    def prepare(self, out: Path) -> None:
        """Lay out what the command starts from."""
        out.mkdir()


class Convert(LongWork):
    def __init__(self, base: Path) -> None:
        super().__init__(base)
        shape = replace(SHAPES["tiny"], name="large", width=512, ffn=2048, vocabulary=4096)
        self.source = write_tiny(base, shape)

    def command(self, out: Path) -> list[str]:
        return ["convert", str(self.source), "--tiers=q3_k_m,q8_0", f"--out={out}", "--threads=1"]

    def outcome(self, out: Path) -> Any:
        assert not list(out.glob(".*.partial"))
        return {f.name: _sha256(f) for f in sorted(out.glob("*.gguf"))}, _tiers(out)

    def check_half(self, out: Path, whole: Any) -> None:
        assert {f.name: _sha256(f) for f in out.glob("*.gguf")}.items() <= whole[0].items()
        if (out / "ladder.toml").exists():
            assert set(_tiers(out)) <= set(whole[1])


class Play(LongWork):
    def command(self, out: Path) -> list[str]:
        command = ["play", "--plain", "--split=generated", "--router=low", "--threads=1"]
        return [*command, "--game=3", "--max-steps=40", f"--trace={out / 'trace.jsonl'}"]

    def outcome(self, out: Path) -> Any:
        trace = read_trace(out / "trace.jsonl")
        assert trace.finished is not None
        return self._steps(trace), trace.finished.won, trace.finished.reason

    def check_half(self, out: Path, whole: Any) -> None:
        path = out / "trace.jsonl"
        if path.exists() and path.stat().st_size:
            trace = read_trace(path)
            steps = self._steps(trace)
            assert steps == whole[0][: len(steps)]
            if trace.finished is None:
                assert trace.note
            elif trace.finished.reason != "interrupted":
                assert len(steps) == len(whole[0])

    def _steps(self, trace: Trace) -> list[tuple[str, str, str]]:
        return [(s.finished.tier, s.finished.text, s.finished.observation) for s in trace.steps]


class Bench(LongWork):
    def command(self, out: Path) -> list[str]:
        command = ["bench", "policies", "--split=generated", "--routers=low,high", "--games=4"]
        files = [f"--store={out / 's.sqlite'}", f"--json={out / 'r.json'}", f"--traces={out / 't'}"]
        return [*command, "--jobs=2", "--threads=1", *files]

    def outcome(self, out: Path) -> Any:
        assert (out / "r.json").stat().st_size
        table = json.loads((out / "r.json").read_text())["tables"]["policies"]
        won = [(row["row"], row["won"]) for row in table]
        return self._games(out), won, sorted(p.name for p in out.glob("t/*/*.jsonl"))

    def check_half(self, out: Path, whole: Any) -> None:
        assert self._games(out).items() <= whole[0].items()
        if (out / "r.json").exists():
            assert self.outcome(out) == whole

    def _games(self, out: Path) -> dict[str, Any]:
        """Key -> what was played, without how long it took."""
        if not (out / "s.sqlite").exists():
            return {}
        with sqlite3.connect(out / "s.sqlite") as db:
            try:
                rows = db.execute("SELECT key, result FROM results").fetchall()
            except sqlite3.OperationalError:  # killed before its table was made
                return {}
        games = {key: json.loads(result) for key, result in rows}
        for game in games.values():
            for step in game["steps"]:
                del step["ms"]
            for measured in ("stage_ms", "jobs", "threads", "cpu"):
                del game[measured]
        return games


class Collect(LongWork):
    def command(self, out: Path) -> list[str]:
        return ["train", "router", f"--run={out}", "--stage=collect", "--jobs=2", *GAMES]

    def outcome(self, out: Path) -> Any:
        note = json.loads((out / "collect.json").read_text())
        kept = ("histories", "train_games", "success_low", "success_high")
        return self._rows(out), {name: note[name] for name in kept}

    def check_half(self, out: Path, whole: Any) -> None:
        for table, rows in self._rows(out).items():
            assert rows <= whole[0][table]
        if (out / "collect.json").exists():
            assert self.outcome(out) == whole

    def _rows(self, out: Path) -> dict[str, set[tuple[object, ...]]]:
        tables = ("node", "writing", "finished")
        if not (out / "rollouts.sqlite").exists():
            return {}
        with sqlite3.connect(out / "rollouts.sqlite") as db:
            try:
                return {name: set(db.execute(f"SELECT * FROM {name}")) for name in tables}
            except sqlite3.OperationalError:  # killed before its tables were made
                return {}


class Grpo(LongWork):
    """The stage, from the folder that the stages before it left."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        run = ["train", "router", f"--run={base / 'run'}", "--jobs=2", *GAMES]
        ended = _started([*run, "--stage=collect", "--stage=sft"], base).wait(300)
        assert ended == 0

    def prepare(self, out: Path) -> None:
        shutil.copytree(self.base / "run", out)

    def command(self, out: Path) -> list[str]:
        run = ["train", "router", f"--run={out}", "--jobs=2", *GAMES]
        return [*run, "--stage=grpo", "--iterations=6"]

    def outcome(self, out: Path) -> Any:
        note = json.loads((out / "grpo.json").read_text())
        return note["networks"], {f.name: _weights(f) for f in sorted(out.glob("grpo-*.pt"))}

    def check_half(self, out: Path, whole: Any) -> None:
        assert {f.name: _weights(f) for f in out.glob("grpo-*.pt")}.items() <= whole[1].items()
        for checkpoint in out.glob("grpo-*.checkpoint"):
            assert _load(checkpoint)["iteration"] <= 6


def _tiers(folder: Path) -> list[str]:
    return [tier.name for tier in find_ladder(str(folder)).tiers]


def _load(path: Path) -> Any:
    import torch

    return torch.load(path, weights_only=True)


def _weights(path: Path) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in _load(path)["weights"].items()}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- killing ----------------------------------------------------------------------------------


def _started(command: list[str], temporary: Path) -> subprocess.Popen[str]:
    """The command in a session of its own, by which its processes are known."""
    return subprocess.Popen(
        [sys.executable, "-m", "edge_router.cli", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What libraries keep for the next time goes elsewhere, so that all else is ours.
        env={
            **os.environ,
            "TMPDIR": str(temporary),
            "MPLCONFIGDIR": f"{temporary}-matplotlib",
            "TORCHINDUCTOR_CACHE_DIR": f"{temporary}-torch",
        },
    )


def _processes(session: int) -> list[str]:
    """The command lines of the session's processes that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, ProcessLookupError):
            continue
    return found


def _shared_memory(owner: int) -> list[str]:
    """What loky, joblib and multiprocessing name after the process that made it."""
    names = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    return [name for name in names if f"-{owner}-" in name or f"_{owner}_" in name]


def _end(command: list[str], temporary: Path) -> float:
    """Run to the end; returns the seconds that it took."""
    began = time.monotonic()
    with _started(command, temporary) as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return time.monotonic() - began


@dataclass(frozen=True)
class Unkilled:
    """Long work, what an unkilled run of it leaves, and how long that takes."""

    subject: LongWork
    outcome: Any
    seconds: float


@pytest.fixture(scope="module", params=[Convert, Play, Bench, Collect, Grpo])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Unkilled]:
    base = tmp_path_factory.mktemp(request.param.__name__.lower())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_ROUTER_HOME", str(base / "home"))
        subject = request.param(base)
        subject.prepare(base / "whole")
        seconds = _end(subject.command(base / "whole"), base)
        yield Unkilled(subject, subject.outcome(base / "whole"), seconds)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_a_kill_at_any_moment_leaves_nothing_behind_and_nothing_half(
    whole: Unkilled, seed: int, tmp_path: Path
) -> None:
    draw = random.Random(f"{type(whole.subject).__name__} {seed}")
    number = draw.choice((signal.SIGKILL, signal.SIGTERM))
    moment = whole.seconds * draw.uniform(0.05, 0.95)
    temporary, out = tmp_path / "temporary", tmp_path / "out"
    temporary.mkdir()
    while True:
        shutil.rmtree(out, ignore_errors=True)
        whole.subject.prepare(out)
        with _started(whole.subject.command(out), temporary) as process:
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.send_signal(number)  # to the parent alone
                _, said = process.communicate(timeout=PATIENCE)
                break
        moment *= 0.7  # this run was quicker than the first: it had ended before its kill
    assert "Traceback" not in said
    limit = time.monotonic() + PATIENCE
    while (left := _processes(process.pid)) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not left
    assert not _shared_memory(process.pid)
    assert not list(temporary.iterdir())
    whole.subject.check_half(out, whole.outcome)
    _end(whole.subject.command(out), temporary)
    assert whole.subject.outcome(out) == whole.outcome
