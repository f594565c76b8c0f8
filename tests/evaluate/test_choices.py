"""What a benchmark is asked for becomes games, rows and settings, or one clear sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from edge_router.engine.tier_spec import DEFAULT_CONTEXT, ModelRuntime
from edge_router.errors import UserError
from edge_router.evaluate.choices import (
    EpisodeChoice,
    GameSet,
    RowChoice,
    WorkPlace,
    settings_of,
)
from edge_router.ladders.ladder_file import LadderFile, TierEntry, read_ladder, write_ladder
from edge_router.ladders.resolve import find_ladder

WHO = RowChoice(("low,high",), kv="handoff", dial=None, oracle=None, costs=None, against=None)


@pytest.fixture
def ladder() -> LadderFile:
    return find_ladder("household")


@pytest.fixture
def grown(ladder: LadderFile, tmp_path: Path) -> LadderFile:
    tiers = [TierEntry(t.name, f"{t.name}.gguf", "0" * 64, 1) for t in ladder.tiers]
    write_ladder(tmp_path, {"name": "g"}, tiers, source={"grown": "qwen3-1.7b"})
    return replace(read_ladder(tmp_path), tiers=ladder.tiers)


def test_a_few_games_are_spread_over_all_kinds() -> None:
    every = GameSet(split="generated").chosen()
    few = GameSet(split="generated", games=6).chosen()
    assert {game.kind for game in few} == {game.kind for game in every}
    assert len({game.id for game in few}) == 6


def test_rows_are_held_against_the_high_tier_and_those_of_a_grown_ladder_against_it_alone(
    ladder: LadderFile, grown: LadderFile
) -> None:
    assert WHO.line_up(ladder).reference is None  # each with "high" under its own KV mode
    found = WHO.line_up(grown)
    assert found.reference is not None
    assert (found.reference.how, found.reference.tier) == ("alone", grown.tiers[-1].name)
    assert found.reference in found.rows
    asked = replace(WHO, against="low").line_up(grown).reference
    assert asked is not None
    assert asked.label == "low"


def test_rows_have_the_kv_mode_that_the_ladder_suggests_unless_one_is_asked_for(
    ladder: LadderFile,
) -> None:
    suggests = replace(ladder, kv="exact")
    assert replace(WHO, kv=None).line_up(suggests).rows[1].kv == "exact"
    assert replace(WHO, kv=None).line_up(ladder).rows[1].kv == "handoff"
    assert WHO.line_up(suggests).rows[1].kv == "handoff"


def test_what_nobody_asked_for_follows_the_model_and_the_machine(ladder: LadderFile) -> None:
    settings = settings_of(ladder, "alfworld", EpisodeChoice(), ModelRuntime())
    assert settings.machine == ModelRuntime(ctx=settings.machine.ctx)
    assert settings.machine.ctx
    assert settings.machine.ctx <= DEFAULT_CONTEXT
    own = settings_of(ladder, "alfworld", EpisodeChoice(), ModelRuntime(threads=1, ctx=512))
    assert own.machine == ModelRuntime(threads=1, ctx=512)


def test_traces_get_a_folder_that_is_there(ladder: LadderFile, tmp_path: Path) -> None:
    episode = EpisodeChoice(traces=tmp_path / "new" / "traces")
    settings = settings_of(ladder, "alfworld", episode, ModelRuntime())
    assert settings.traces == tmp_path / "new" / "traces"
    assert settings.traces.is_dir()


Asked = Callable[[LadderFile, Path], object]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda _, __: GameSet(split="generated", games=999).chosen(), "asks for 999 games"),
        (lambda ladder, _: replace(WHO, dial="0.5,2").line_up(ladder), "--dial 0.5,2: dials are"),
        (lambda ladder, _: replace(WHO, dial="much").line_up(ladder), "--dial much: dials are"),
        (lambda ladder, _: replace(WHO, kv="none").line_up(ladder), "unknown KV mode 'none'"),
        (
            lambda ladder, file: settings_of(
                ladder, "alfworld", EpisodeChoice(traces=file / "in"), ModelRuntime()
            ),
            "--traces .* cannot be made",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(
    asked: Asked, said: str, ladder: LadderFile, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match=said):
        asked(ladder, file)


@pytest.mark.parametrize("kind", [GameSet, RowChoice, EpisodeChoice, WorkPlace, ModelRuntime])
def test_no_value_carries_more_options_than_belong_together(kind: type) -> None:
    """A run takes some options of each; one value with all of them reached every function."""
    assert len(fields(kind)) <= 6
