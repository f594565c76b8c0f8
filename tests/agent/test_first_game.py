"""What a newcomer sees first shows what routing is for, and is on the screen soon."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edge_router.agent.episode import Options
from edge_router.agent.events import EpisodeFinished, Event, Routed, StepFinished
from edge_router.agent.session import Session
from edge_router.agent.trace import read_trace
from edge_router.cli.replay import DEMO, RUNS
from edge_router.engine.ladder import Ladder, default_context
from edge_router.ladders.resolve import find_ladder
from edge_router.router.registry import make_router
from edge_router.tasks.alfworld.game_files import GENERATED, default_game, split_games
from edge_router.tasks.games import pick
from tests.project.test_imports import modules_after
from tools.record_demo import record

# Of what TextWorld and ALFWorld import, each found in a run before only their engine was loaded.
UNUSED = {
    "alfworld",
    "cffi",
    "gymnasium",
    "hashids",
    "jericho",
    "matplotlib",
    "networkx",
    "pandas",
    "prompt_toolkit",
    "scipy",
    "textual",
    "textworld",
    "torch",
    "tqdm",
}


def played(router: str) -> tuple[EpisodeFinished, list[Event]]:
    """The default game on the embedded model."""
    ladder, games = find_ladder("household"), split_games(GENERATED)
    load = partial(Ladder.load, ladder.tiers, n_ctx=default_context(ladder.tiers), n_threads=1)
    events: list[Event] = []
    with Session(games, load, make_router(router), Options(prompt=ladder.prompt)) as session:
        return session.play(pick(games, default_game(games)), [events.append]), events


def test_the_first_game_is_lost_by_the_low_tier_and_won_under_the_router() -> None:
    low, low_events = played("low")
    routed, events = played(str(find_ladder("household").router))
    assert (low.won, routed.won) == (False, True)
    escalated = [e.step for e in events if isinstance(e, Routed) and e.tier_index > 0]
    assert escalated
    before = {e.step: e.action for e in low_events if isinstance(e, StepFinished)}
    after = {e.step: e.action for e in events if isinstance(e, StepFinished)}
    # Up to the first escalation both runs are the same, so there the high tier changed it.
    assert all(before[step] == after[step] for step in range(escalated[0]))
    assert any(before[step] != after[step] for step in escalated)


def test_another_set_of_games_begins_with_its_first() -> None:
    games = split_games(GENERATED)
    assert default_game([g for g in games if g.id != default_game(games)]) == "0"


def test_a_plain_run_imports_nothing_of_textworld_but_its_engine() -> None:
    loaded = modules_after(
        "from edge_router.cli.main import main\n"
        "try: main(['play', '--plain', '--max-steps', '1', '--threads', '1'])\n"
        "except SystemExit as end: assert not end.code, end.code"
    )
    assert {"llama_cpp", "fast_downward", "tatsu"} <= loaded
    assert not loaded & UNUSED


def test_the_demo_shows_what_the_model_does_today(tmp_path: Path) -> None:
    for name in RUNS:
        record(tmp_path, name)
        kept, now = read_trace(DEMO / f"{name}.jsonl"), read_trace(tmp_path / f"{name}.jsonl")
        actions = [[step.finished.action for step in trace.steps] for trace in (kept, now)]
        assert actions[0] == actions[1], "stale: run python -m tools.record_demo"
        assert kept.started.router == now.started.router


def test_the_demo_needs_no_model_and_no_game() -> None:
    loaded = modules_after(
        "from edge_router.cli.main import main\n"
        "try: main(['demo', '--plain'])\n"
        "except SystemExit as end: assert not end.code, end.code"
    )
    assert not loaded & {"llama_cpp", "onnxruntime", "fast_downward", "textual"}
