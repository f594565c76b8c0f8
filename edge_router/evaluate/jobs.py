"""One game as a piece of work: everything that decides its outcome, its key, and playing it.

The real episode loop plays (`agent.episode`), on the real engine; a benchmark adds a listener.
A process keeps the ladder it loaded for the games that follow.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from edge_router.agent.episode import Options, play_episode
from edge_router.agent.events import Listener
from edge_router.agent.trace import TraceWriter
from edge_router.engine.fingerprint import file_sha256
from edge_router.engine.ladder import Ladder
from edge_router.engine.machine import cpu_model, physical_cores
from edge_router.engine.tier import TierSpec
from edge_router.engine.tier_spec import ModelRuntime
from edge_router.engine.trust import gguf_sha256
from edge_router.errors import UserError
from edge_router.evaluate.records import LOST, GameRecord, Recorder, StepRecord
from edge_router.evaluate.rows import LOOKUP, PLAN, REWRITE
from edge_router.router.registry import find_kind, make_router
from edge_router.router.rules import NEUTRAL
from edge_router.router.spec import RouterSpec
from edge_router.tasks.games import GameRef
from edge_router.tasks.protocol import scripted_steps
from edge_router.tasks.registry import find_task
from edge_router.work.pool import StopRunError
from edge_router.work.store import key_of

RECORDS: Final = "edge-router/game/1"  # part of every key: older records are not taken for ours
EXPERT: Final = "expert"


@dataclass(frozen=True)
class GameJob:
    """A game and who plays it. `specs` is empty for the expert, who needs no model."""

    game: GameRef
    specs: tuple[TierSpec, ...]
    router: RouterSpec
    kv: str
    options: Options  # its seed is the episode's own
    machine: ModelRuntime  # with a context of its own
    attempt: int = 0  # 0: the first
    jobs: int = 1  # games that are played at once
    traces: Path | None = None  # the folder that gets the episode's trace

    @property
    def title(self) -> str:
        return f"{self.player} {self.game.id}"

    @property
    def player(self) -> str:
        """Who plays, as a row of the table is called: "low", "alone:q8_0", "rewrite:draft:0.5"."""
        router = f"{self.router}{_dial(self.options)}"
        if len(self.specs) == 1:
            router = f"alone:{self.specs[0].name}"
        elif self.options.escalate == REWRITE:
            router = f"{REWRITE}:{router}"
        return f"{LOOKUP}:{router}" if self.options.lookup else router

    @property
    def trace(self) -> Path | None:
        """Where the episode's trace lies: by who plays, the trial, and all that decides it."""
        if self.traces is None or self.router.kind == EXPERT:
            return None
        trial = self.game.id.rpartition("/")[2]
        return self.traces / _folder_name(self) / f"{trial}-{self.key()[:8]}.jsonl"

    @property
    def lacks_files(self) -> bool:
        """Whether a stored result is not enough: its trace is wanted and is not there."""
        return self.trace is not None and not self.trace.is_file()

    def key(self) -> str:
        """Over everything that decides the outcome; where it runs and how fast is not in it."""
        return key_of(
            {
                "records": RECORDS,
                "game": file_key(self.game.path),
                "model": [(spec.name, gguf_sha256(spec.path)) for spec in self.specs],
                "router": _identity(self.router),
                "kv": self.kv if self.router.kind != "low" and len(self.specs) > 1 else "",
                **options_key(self.options, verifies=self._verifies),
                "n_ctx": self.machine.ctx,
            }
        )

    @property
    def _verifies(self) -> bool:
        """Whether a higher tier may be given drafts."""
        if len(self.specs) < 2 or self.options.escalate == REWRITE:
            return False
        return find_kind(self.router).decide_at != "prompt"


def options_key(options: Options, *, verifies: bool) -> dict[str, Any]:
    """What of the options decides an outcome; where nothing is verified nothing is said of it."""
    plain = asdict(options)
    del plain["escalate"]
    if not options.lookup:
        del plain["lookup"]
    return {"options": plain} | ({"escalate": "verify"} if verifies else {})


def episode_seed(seed: int, game: str, attempt: int = 0) -> int:
    """A seed of its own for every game and attempt, so that draws differ between games."""
    digest = hashlib.sha256(f"{seed}/{game}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def play_job(job: GameJob) -> GameRecord:
    """Play the game in this process. Raises UserError or what the engine raises."""
    with _shelf.lock:
        record = _play_expert(job) if job.router.kind == EXPERT else _play(job)
    return replace(record, jobs=job.jobs, threads=job.machine.threads or 0, cpu=cpu_model())


def crashed(job: GameJob, reason: str) -> GameRecord:
    """The record of a game that the engine did not survive: it counts as not won."""
    return GameRecord(
        *(job.game.id, job.game.kind, False, "crashed", "crashed"),
        seed=job.options.seed,
        crash=reason,
        jobs=job.jobs,
        threads=job.machine.threads or 0,
        cpu=cpu_model(),
    )


# -- playing ------------------------------------------------------------------------------------


class LadderShelf:
    """Ladders that a process keeps for the work that follows; `lock` lets one piece at them."""

    def __init__(self, room: int = 1) -> None:
        self.room = room
        self.lock = threading.RLock()  # dask may run work in several threads
        self._ladders: dict[tuple[Any, ...], Ladder] = {}

    def ladder(
        self,
        kind: type[Ladder],
        specs: tuple[TierSpec, ...],
        kv: str,
        machine: ModelRuntime,
        jobs: int,
    ) -> Ladder:
        """The ladder, loaded now or before; its threads are its share of the cores at most.

        Raises StopRunError when it cannot be loaded.
        """
        key = (kind, specs, kv, machine, jobs)
        if key not in self._ladders:
            while len(self._ladders) >= self.room:
                self._ladders.pop(next(iter(self._ladders))).close()
            try:
                share = max(1, physical_cores() // jobs)
                self._ladders[key] = kind.load_on(machine, specs, kv=kv, thread_limit=share)
            except UserError as error:
                raise StopRunError(str(error)) from error
        return self._ladders[key]


_shelf = LadderShelf()


def _play(job: GameJob) -> GameRecord:
    ladder = _shelf.ladder(Ladder, job.specs, job.kv, job.machine, job.jobs)
    recorder = Recorder()
    with ExitStack() as stack:
        heard: list[Listener] = [recorder]
        game = stack.enter_context(closing(find_task(job.game.task).open(job.game)))
        if job.trace is not None:
            job.trace.parent.mkdir(parents=True, exist_ok=True)
            heard.append(stack.enter_context(TraceWriter(job.trace)))
        router = make_router(job.router)
        started = time.perf_counter()
        end = play_episode(game, ladder, router, job.options, heard)
        wall = time.perf_counter() - started
    if end.reason == "interrupted":
        raise KeyboardInterrupt
    record = recorder.record(job.game.id, job.game.kind, ladder.names[0], job.options.seed)
    return replace(record, wall_s=round(wall, 4))


def _play_expert(job: GameJob) -> GameRecord:
    """The scripted expert, which shows what the games allow."""
    task = find_task(job.game.task)
    with closing(task.open(job.game)) as game:
        opening = game.reset()
        player = task.player(opening, job.game)
        if player is None:
            raise StopRunError(f"nobody has written an expert for {task.name}; leave that row out")
        played = list(scripted_steps(game.step, player, job.options.max_steps))
    steps = tuple(
        StepRecord(EXPERT, task.refused(p.reply.observation), 0.0, 0, 0, 0, 0, 0) for p in played
    )
    end = played[-1].reply if played else None
    won = end is not None and end.won
    reason = "won" if won else LOST if end is not None and end.done else "out of steps"
    return GameRecord(
        *(job.game.id, job.game.kind, won, reason, "" if won else reason, "", steps),
        score=None if end is None else end.score,
        max_score=opening.max_score,
    )


def _folder_name(job: GameJob) -> str:
    """Who plays, as the name of a folder: "low", "onnx-household-router.onnx-handoff"."""
    router = "oracle" if job.router.kind == PLAN else job.router.short
    if len(job.specs) == 1:
        router = f"alone-{job.specs[0].name}"
    elif job.router.kind != "low":
        rewritten = f"-{REWRITE}" if job.options.escalate == REWRITE else ""
        router += f"{_dial(job.options)}-{job.kv}{rewritten}"
    if job.options.lookup:
        router = f"{LOOKUP}-{router}"
    return re.sub(r"[^\w.@-]+", "-", router)[:100]


def _dial(options: Options) -> str:
    """ "@0.3", "" where the dial was left alone."""
    dial = options.dial
    return f"@{dial:g}" if isinstance(dial, float) and dial != NEUTRAL else ""


# -- identity -----------------------------------------------------------------------------------


def _identity(router: RouterSpec) -> str:
    """A router's spec, and for one that lies in a file the file's content instead of its place."""
    if router.file is not None and router.file.is_file():
        return f"{router.kind}:sha256:{file_key(router.file)}"
    return str(router)


def file_key(path: Path) -> str:
    """SHA-256 of a file, computed once while it stays as it is."""
    facts = path.stat()
    return _remembered(path, facts.st_mtime_ns, facts.st_size)


@cache
def _remembered(path: Path, _changed: int, _size: int) -> str:
    return file_sha256(path)
