"""Names and paths of strangers: what will do, and what is refused without waiting or writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_router.errors import UserError
from edge_router.files.paths import is_folder, require_name, stays_inside, why_no_file


@pytest.mark.parametrize("name", ["q8_0", "Qwen3-0.6B", "a", "7b", "a" * 96])
def test_ordinary_names_will_do(name: str) -> None:
    assert require_name(name, "the name") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "org/model", "/abs", "-x", ".x", "a b", "a\n", "a\0", "\x1b[31m", "ä",
     "a" * 97, "a\\b", "a:b", "~"],
)  # fmt: skip
def test_names_that_break_something_are_reported_in_one_clean_line(name: str) -> None:
    with pytest.raises(UserError, match=r"^the name ") as error:
        require_name(name, "the name")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300


def test_paths_that_leave_their_folder_are_distinguished() -> None:
    assert [p for p in ("a.gguf", "sub/a.gguf", "./a.gguf") if not stays_inside(p)] == []
    assert [p for p in ("", ".", "/a", "../a", "a/../../b", "..") if stays_inside(p)] == []


def test_what_is_no_file_is_reported_without_opening_it(tmp_path: Path) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.touch()
    assert why_no_file(file) == ""
    assert why_no_file(pipe) == "is a pipe or a device, not a file"
    assert why_no_file(Path("/dev/zero")) == "is a pipe or a device, not a file"
    assert why_no_file(tmp_path) == "is a folder"
    assert why_no_file(file / "below") == why_no_file(tmp_path / "no") == "does not exist"
    assert why_no_file(Path("a\0b")) == "does not exist"
    assert why_no_file(tmp_path / ("x" * 300)) == "cannot be read: File name too long"
    assert not is_folder(tmp_path / ("x" * 300))
