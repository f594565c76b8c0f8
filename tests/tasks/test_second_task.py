"""A second task is one module and one registration: everything else plays it as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edge_router.agent.episode import Options
from edge_router.agent.events import EpisodeStarted, Event, StepFinished
from edge_router.agent.session import Session
from edge_router.agent.trace import read_trace
from edge_router.bench.doctor import examine
from edge_router.engine.ladder import Ladder
from edge_router.engine.tier_spec import ModelRuntime, TierSpec
from edge_router.errors import UserError
from edge_router.evaluate.jobs import GameJob, play_job
from edge_router.ladders.resolve import find_ladder
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from edge_router.tasks import registry
from edge_router.tasks.games import Found, GameRef, pick
from edge_router.tasks.parse import Parsed, parse_step
from edge_router.tasks.protocol import (
    Finding,
    Game,
    Message,
    Opening,
    PromptStyle,
    Reply,
    ScriptedPlayer,
    Task,
)
from tests.tiny_gguf import TINY_QWEN3, write_tiny_ladder

LOW, HIGH = "q3_k_m", "q8_0"
RUNTIME = ModelRuntime(threads=1, ctx=512)
REFUSED = "That is no number."


class CountingGame:
    """Count up to the number in the file, in one step at least."""

    task, kind = "counting", "up"

    def __init__(self, path: Path) -> None:
        self.id, self.target, self.at = path.stem, int(path.read_text()), 0

    def reset(self) -> Opening:
        self.at = 0
        return Opening("You are at 0.", f"count to {self.target}.")

    def step(self, action: str) -> Reply:
        if not (number := re.search(r"\d+", action)):
            return Reply(REFUSED, done=False, won=False)
        self.at += int(number[0])
        return Reply(f"You are at {self.at}.", self.at >= self.target, self.at == self.target)

    def admissible(self) -> tuple[str, ...]:
        return ("add 1", "add 2")

    def close(self) -> None: ...


class PlainStyle(PromptStyle):
    name, max_tokens = "plain", 8
    stop: tuple[str, ...] = ()

    def opening(self, opening: Opening) -> list[Message]:
        return [{"role": "user", "content": f"{opening.goal} {opening.observation}"}]

    def reply(self, observation: str) -> Message:
        return {"role": "user", "content": observation}

    def parse(self, text: str) -> Parsed:
        return parse_step(text)


class OneByOne:
    """Adds 1 until it is told to stop."""

    def act(self) -> tuple[str, str]:
        return "one more", "add 1"

    def observe(self, reply: str, action: str) -> None: ...


class CountingTask(Task):
    name, splits, default_style = "counting", ("small",), "plain"
    styles: dict[str, PromptStyle] = {"plain": PlainStyle()}  # noqa: RUF012

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def games(self, split: str | None = None, folder: str | Path | None = None) -> Found:
        files = sorted(Path(folder or self.folder).glob("*.txt"))
        return Found(self.folder, tuple(GameRef(f.stem, f, "up", self.name) for f in files), {})

    def open(self, game: GameRef) -> Game:
        return CountingGame(game.path)

    def refused(self, observation: str) -> bool:
        return observation == REFUSED

    def player(self, opening: Opening, game: GameRef) -> ScriptedPlayer:
        return OneByOne()

    def why_lost(self, goal: str, actions: Sequence[str]) -> str:
        return "counted wrong" if actions else "never counted"

    def examine(self) -> Iterator[Finding]:
        yield Finding("numbers", "there are enough")


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingTask:
    (tmp_path / "three.txt").write_text("3")
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    registry.register(made := CountingTask(tmp_path))
    return made


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> tuple[TierSpec, ...]:
    paths = write_tiny_ladder(tmp_path_factory.mktemp("tiny"), TINY_QWEN3, (LOW, HIGH))
    return tuple(TierSpec(name, paths[name]) for name in (LOW, HIGH))


def test_a_session_plays_it_and_the_trace_tells_of_it(
    task: CountingTask, specs: tuple[TierSpec, ...], tmp_path: Path
) -> None:
    def load() -> Ladder:
        return Ladder.load(specs, n_ctx=512, n_threads=1)

    heard: list[Event] = []
    games, trace = task.games().games, tmp_path / "e.jsonl"
    options = Options(max_steps=3, constrain=True)
    phases: list[str] = []
    with Session(games, load, make_router("random:0.5"), options, trace, phases.append) as session:
        end = session.play(pick(games, task.first_game(games)), [heard.append])
        assert phases == ["Loading the model", "Loading the game engine", ""]
        session.play(games[0], [])
        assert phases[3:] == [], "everything is loaded"
    started = heard[0]
    assert isinstance(started, EpisodeStarted)
    assert (started.task, started.game, started.kind) == ("counting", "three", "up")
    assert (started.goal, started.prompt) == ("count to 3.", "plain")
    steps = [event for event in heard if isinstance(event, StepFinished)]
    assert {step.action for step in steps} <= {"add 1", "add 2"}
    assert (end.steps, end.won) == (len(steps), steps[-1].observation == "You are at 3.")
    assert read_trace(trace).started == started


def test_a_benchmark_counts_its_refusals_and_why_it_was_lost(
    task: CountingTask, specs: tuple[TierSpec, ...]
) -> None:
    game = task.games().games[0]
    record = play_job(
        GameJob(game, specs, RouterSpec.parse("low"), "handoff", Options(max_steps=2), RUNTIME)
    )
    assert (record.game, record.kind, record.won) == ("three", "up", False)
    assert record.refused == 2  # a random model writes no number
    assert record.failure == "never counted"


def test_a_benchmark_lets_its_scripted_player_play(task: CountingTask) -> None:
    game = task.games().games[0]
    record = play_job(GameJob(game, (), RouterSpec.parse("expert"), "", Options(), RUNTIME))
    assert (record.won, len(record.steps), record.refused) == (True, 3, 0)


def test_doctor_examines_it(task: CountingTask) -> None:
    assert Finding("numbers", "there are enough") in list(examine(find_ladder("household")))


def test_a_model_that_speaks_another_tasks_prompt_only_is_told(task: CountingTask) -> None:
    game = task.games().games[0]
    tiers = find_ladder("household").tiers[:1]
    with pytest.raises(UserError, match="no prompt style 'household' for counting; styles are pl"):
        play_job(GameJob(game, tiers, RouterSpec.parse("low"), "handoff", Options(), RUNTIME))


def test_an_unknown_task_is_told_with_the_nearest_one(task: CountingTask) -> None:
    with pytest.raises(UserError, match=r"no task 'countin' .did you mean 'counting'"):
        registry.find_task("countin")
    with pytest.raises(ValueError, match="already"):
        registry.register(task)
