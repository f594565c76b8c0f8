"""One reader of JSON and TOML: whatever a file holds, it is data or one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.errors import UserError
from edge_router.files.data_files import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_TOML_BYTES,
    UnreadableError,
    parse_json,
    parse_toml,
    read_json,
    read_object,
    read_toml,
)
from edge_router.ladders.costs import read_profile
from edge_router.tasks.alfworld.game_files import look_for_games
from edge_router.tasks.household.pddl import load_game


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert read_object(tmp_path / "a.json", "results") == {"a": 1}
    assert read_toml(tmp_path / "a.toml", "settings") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2), "nested too deeply"),
        (b'{"a":' * 90_000, "nested too deeply"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"", "not JSON"),
        (b"1" * 5000, "not JSON"),
    ],
)
def test_json_that_is_none_is_reported_in_a_sentence(
    tmp_path: Path, text: bytes, reason: str
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(UnreadableError, match=reason) as raised:
        read_json(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"a = " + b"[" * 50_000, "nested too deeply"),
        (b"a." * 100_000 + b"a = 1", "dots"),
        (b"a = " + b"1" * 6000, "not TOML"),
        (b"a = 1\na = 2", "not TOML"),
        (b"a = '\xff'", "not UTF-8"),
    ],
)
def test_toml_that_is_none_is_reported_in_a_sentence(
    tmp_path: Path, text: bytes, reason: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(text)
    with pytest.raises(UnreadableError, match=reason):
        read_toml(path, "settings")


def test_depth_up_to_the_limit_is_read() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UnreadableError, match="is a pipe or a device"):
            read_json(path)
    with pytest.raises(UnreadableError, match="is a folder"):
        read_json(tmp_path)
    with pytest.raises(UnreadableError, match="no such file"):
        read_json(tmp_path / "none")
    with pytest.raises(UserError, match="no file name"):
        read_json(Path("a\0b"))


def test_files_without_an_end_in_sight_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UnreadableError, match="larger than 16 MiB"):
        read_json(path)
    with path.open("wb") as file:
        file.truncate(MAX_TOML_BYTES + 1)
    with pytest.raises(UnreadableError, match="larger than 256 KiB"):
        read_toml(path, "settings")


def test_an_object_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(UnreadableError, match="no JSON object"):
        read_object(tmp_path / "a.json", "results")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80) | st.binary(max_size=80))
def test_any_text_is_data_or_a_value_error(text: str | bytes) -> None:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    for parse in (parse_json, parse_toml):
        try:
            parse(data)
        except ValueError as error:
            assert str(error).startswith(("it is", "a line"))  # noqa: PT017


def test_deep_or_waiting_files_of_a_game_are_reported(tmp_path: Path) -> None:
    folder = tmp_path / "odd-Mug-None-Desk-1" / "trial_1"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "traj_data.json")
    (folder / "game.tw-pddl").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"without traj_data\.json"):
        look_for_games(tmp_path)
    with pytest.raises(UserError, match="nested too deeply"):
        load_game(folder / "game.tw-pddl")


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"schema": "edge-router/costs/1"}'])
def test_a_profile_that_is_none_is_reported(tmp_path: Path, text: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"costs\.json"):
        read_profile(path)
