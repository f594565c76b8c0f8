"""What a newcomer sees first shows what routing is for, and is on the screen soon."""

from __future__ import annotations

import pytest

from edge_router.agent.trace import Trace, read_trace
from edge_router.cli.replay import DEMO, RUNS
from edge_router.tasks.alfworld.game_files import GENERATED, default_game, split_games
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


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    """The default game on the embedded model, by the low tier alone and under the router."""
    folder = tmp_path_factory.mktemp("demo")
    for name in RUNS:
        record(folder, name)
    return {name: read_trace(folder / f"{name}.jsonl") for name in RUNS}


def test_the_first_game_is_lost_by_the_low_tier_and_won_under_the_router(
    recorded: dict[str, Trace],
) -> None:
    low, routed = recorded["low"], recorded["routed"]
    assert low.finished is not None
    assert routed.finished is not None
    assert (low.finished.won, routed.finished.won) == (False, True)
    escalated = [step.routed.step for step in routed.steps if step.routed.tier_index > 0]
    assert escalated
    before, after = (
        {step.finished.step: step.finished.action for step in trace.steps}
        for trace in (low, routed)
    )
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


def test_the_demo_shows_what_the_model_does_today(recorded: dict[str, Trace]) -> None:
    for name, now in recorded.items():
        kept = read_trace(DEMO / f"{name}.jsonl")
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
