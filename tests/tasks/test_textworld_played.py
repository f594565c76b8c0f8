"""A model plays TextWorld by the ways that know no task: session, trace, benchmark, command."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_router.agent.episode import Options
from edge_router.agent.events import EpisodeStarted, Event, StepFinished
from edge_router.agent.listeners.printer import PlainPrinter
from edge_router.agent.session import Session
from edge_router.agent.trace import read_trace, replay
from edge_router.cli.main import main
from edge_router.engine.ladder import Ladder
from edge_router.engine.tier_spec import ModelRuntime, TierSpec
from edge_router.evaluate.jobs import GameJob, play_job
from edge_router.evaluate.policies import Outcome, PlayedRow
from edge_router.evaluate.rows import Row
from edge_router.evaluate.summary import summaries
from edge_router.results.policy_sheets import policy_summary
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from edge_router.tasks.registry import find_task
from edge_router.tasks.textworld.game_files import read_about
from edge_router.tasks.textworld.prompts import EXAMPLE, STEPS, BareStyle
from tests.tiny_gguf import TINY_QWEN3, write_tiny_ladder

TASK = find_task("textworld")
GAMES = {game.kind: game for game in TASK.games().games}
GAME = GAMES["cooking"]
RUNTIME = ModelRuntime(threads=1, ctx=512)
MOST = read_about(GAME.path).max_score


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> tuple[TierSpec, ...]:
    names = ("q3_k_m", "q8_0")
    paths = write_tiny_ladder(tmp_path_factory.mktemp("tiny"), TINY_QWEN3, names)
    return tuple(TierSpec(name, paths[name]) for name in names)


def test_a_session_plays_it_and_the_trace_tells_task_and_score(
    specs: tuple[TierSpec, ...], tmp_path: Path
) -> None:
    def load() -> Ladder:
        return Ladder.load(specs, n_ctx=2048, n_threads=1)

    heard: list[Event] = []
    trace = tmp_path / "e.jsonl"
    options = Options(max_steps=3, constrain=True, fingerprints=False, prompt="household")
    with Session([GAME], load, make_router("random:0.5"), options, trace) as session:
        end = session.play(GAME, [heard.append])
    started, steps = heard[0], [event for event in heard if isinstance(event, StepFinished)]
    assert isinstance(started, EpisodeStarted)
    assert (started.task, started.kind, started.prompt) == ("textworld", "cooking", "household")
    assert started.max_score == end.max_score == MOST
    assert len(steps) == 3
    assert [step.score for step in steps][-1] == end.score
    assert not any(step.refused for step in steps), "only admissible commands"
    read = read_trace(trace)
    assert (read.started, read.finished) == (started, end)
    text = io.StringIO()
    replay(read, [PlainPrinter(text)])
    assert "game    textworld cooking" in text.getvalue()
    assert f"score {end.score} of {MOST}" in text.getvalue()


def test_a_benchmark_lets_the_walkthrough_win_and_tells_the_score() -> None:
    games = list(GAMES.values())
    records = [
        play_job(GameJob(game, (), RouterSpec.parse("expert"), "", Options(), RUNTIME))
        for game in games
    ]
    assert [(r.won, r.reason, r.share_of_score) for r in records] == [(True, "won", 1.0)] * 4
    cut = play_job(GameJob(GAME, (), RouterSpec.parse("expert"), "", Options(max_steps=8), RUNTIME))
    assert (cut.won, cut.failure) == (False, "out of steps")
    assert cut.share_of_score is not None
    assert 0 < cut.share_of_score < 1
    row = PlayedRow(Row("expert"), tuple(Outcome((r,)) for r in (*records, cut)))
    table = summaries([row], ("q3_k_m", "q8_0"), None)
    assert table[0]["score"]["value"] == pytest.approx((4 + cut.share_of_score) / 5)
    sheet = policy_summary({"tables": {"policies": table}, "settings": {}})[0]
    assert "score %" in sheet.columns


def test_general_models_are_shown_a_game_and_others_see_none() -> None:
    react, bare = TASK.styles["react"], TASK.styles["household"]
    whole, shared = react.opening(EXAMPLE), react.shared(EXAMPLE)
    assert whole[:-1] == shared[:-1]
    assert whole[-1]["content"].startswith(shared[-1]["content"])
    assert len(whole) == 1 + 2 * len(STEPS)
    assert [message["role"] for message in whole][-1] == "user"
    for thought, command, _ in STEPS:
        assert react.parse(f"{thought}\n> {command}").action == command
    assert len(bare.opening(EXAMPLE)) == 1
    assert bare.shared(EXAMPLE) == []
    assert (react.note, bare.note) == ("", BareStyle.note)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["play", "--task", "textworld", "--plain", *arguments])


def test_the_command_plays_the_game_that_a_file_holds() -> None:
    done = run("--game", str(GAME.path), "--max-steps", "1", "--threads", "1", "--router", "low")
    assert done.exit_code == 0, done.output
    assert "game    textworld cooking-S7-0003" in done.stdout
    assert "not won in 1 step" in done.stdout
    assert "(note: This model was trained for another task" in done.stdout


def test_the_command_tells_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    lonely = tmp_path / "lonely.z8"
    lonely.write_bytes(GAME.path.read_bytes())
    done = run("--game", str(lonely))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "cannot be played without lonely.json" in done.stderr
    assert len(done.stderr.splitlines()) == 1
