"""A router is trained on a task without a simulator: histories are played again on its engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_router.agent.episode import Options, play_episode
from edge_router.agent.events import Event, StepFinished
from edge_router.engine.tier_spec import TierSpec
from edge_router.errors import UserError
from edge_router.router.registry import make_router
from edge_router.tasks.registry import find_task
from edge_router.work.pool import Backend
from tests.tiny_gguf import TINY_QWEN3, write_tiny_ladder
from train.router.commands import run_stages
from train.router.decoder import Decoder
from train.router.explore import ExplorePlan
from train.router.games import FileGame
from train.router.options import GrpoConfig, RunOptions, SftConfig
from train.router.rollouts import Rollouts
from train.router.run import Run, game_sets
from train.router.setting import LadderSetting
from train.router.stages.evaluate import Comparison
from train.router.tree import Explorer, GameTree
from train.router.verify import differences

TASK = find_task("textworld")
STEPS = 4
GAME = FileGame.of(TASK.games().games[0])


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> LadderSetting:
    paths = write_tiny_ladder(tmp_path_factory.mktemp("tiny"), TINY_QWEN3, ("q3_k_m", "q8_0"))
    specs = tuple(TierSpec(name, path) for name, path in paths.items())
    return LadderSetting(specs, max_steps=STEPS, task="textworld", prompt="household")


@pytest.fixture(scope="module")
def explorer(setting: LadderSetting) -> Iterator[Explorer]:
    with closing(setting.load()) as ladder:
        decoder = Decoder(ladder, setting.prompt, setting.task)
        with closing(Explorer(GameTree(GAME), decoder, STEPS)) as made:
            yield made


def test_a_history_has_the_replies_of_play(explorer: Explorer, setting: LadderSetting) -> None:
    heard: list[Event] = []
    options = Options(max_steps=STEPS, prompt=setting.prompt)
    with closing(setting.load()) as ladder, closing(TASK.open(GAME.ref)) as game:
        play_episode(game, ladder, make_router("high"), options, [heard.append])
    played = [event for event in heard if isinstance(event, StepFinished)]
    node, walked = explorer.root, []
    while not node.done:
        written = node.writings[1]
        node = explorer.child(node, 1)
        walked.append((written.text, written.action, node.reply, node.refused))
    assert walked == [(s.text, s.action, s.observation, s.refused) for s in played]
    assert [s.refused for s in played] == [True] * STEPS, "a random model writes no command"


def test_histories_that_part_are_each_played_from_the_beginning(explorer: Explorer) -> None:
    root = explorer.root
    low, high = explorer.child(root, 0), explorer.child(root, 1)
    after = [explorer.child(low, 1), explorer.child(high, 0), explorer.child(low, 0)]
    assert all(node.step == 2 for node in after)
    episodes = [("look", "go north", "inventory"), ("dance", "look")]
    assert differences(GAME, episodes) == []


def test_rollouts_of_another_task_are_kept_apart(setting: LadderSetting) -> None:
    assert setting.conditions()["task"] == "textworld"
    assert "task" not in LadderSetting(setting.tiers).conditions()


def test_games_that_nobody_draws_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"textworld cannot draw games .* --games"):
        game_sets(RunOptions(), "textworld")
    with pytest.raises(UserError, match="holds 4 games; at least 6 are needed"):
        game_sets(RunOptions(folder=GAME.ref.path.parent), "textworld")


def test_a_folder_of_games_is_explored(setting: LadderSetting, tmp_path: Path) -> None:
    for index in range(6):
        for suffix in (".z8", ".json"):
            source = GAME.ref.path.with_suffix(suffix)
            shutil.copy(source, tmp_path / f"{index}{suffix}")
    games = game_sets(RunOptions(folder=tmp_path), "textworld").train
    assert len(games) == 4
    with Rollouts(setting, tmp_path / "r.sqlite", None) as rollouts:
        rollouts.collect(games[:2], ExplorePlan((0.5,), 3))
        indices = rollouts.take(games[:2])
        assert len(indices) == 2
        assert rollouts.decoded > 2 * STEPS


@pytest.mark.slow
def test_every_stage_runs_and_the_engine_says_the_same(
    setting: LadderSetting, tmp_path: Path
) -> None:
    games = tmp_path / "games"
    games.mkdir()
    for index in range(6):
        for suffix in (".z8", ".json"):
            shutil.copy(GAME.ref.path.with_suffix(suffix), games / f"{index}{suffix}")
    options = RunOptions(
        folder=games,
        plan=ExplorePlan((0.5,), 3),
        states=(0,),
        decide_at=("draft",),
        sft=SftConfig(epochs=2),
        grpo=GrpoConfig(iterations=2, groups=4, group_size=2, every=2, grown_games=1),
        backend=Backend(1),
        ablate=False,
    )
    run = Run(tmp_path / "run", setting, options)
    try:
        run_stages(run, (), Comparison(search=3))
    finally:
        run.close()
    assert (run.folder / "router.onnx").is_file()
    tables = json.loads((run.folder / "evaluate.json").read_text())["tables"]
    assert [table["engine_differences"] for table in tables] == [[]]
