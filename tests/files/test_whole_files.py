"""A file is there whole or not at all, and a refusal to write is one sentence."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edge_router.errors import UserError
from edge_router.files.whole import remove_leftovers, temporary, whole, write_text


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with whole(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interruption_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole(target) as partial:  # noqa: PT012
        partial.write_text("ne")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_refusal_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "none" / "a.json"
    with pytest.raises(UserError, match=r"none/a\.json cannot be written: No such file"):
        write_text(target, "text")


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the disk is full"), whole(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_a_killed_process_left_of_a_file_is_removed_and_no_other_files(tmp_path: Path) -> None:
    target = tmp_path / "a[1].gguf"
    left, other = temporary(target, 1234), temporary(tmp_path / "a1.gguf", 1234)
    for path in (left, other):
        path.write_text("part")
    remove_leftovers(target)
    assert list(tmp_path.iterdir()) == [other]
